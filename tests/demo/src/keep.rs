//! What a person can do with a demo that is left running.

use e2e::Stack;

use crate::folder::Folder;
use crate::scene::{
    BINDING, GRANTED_NAMESPACE, NAMESPACE, OTHER_REPOSITORY, REGISTRY, SCOPE, owned_identity,
};
use crate::screen::{Screen, Style};

/// Says how to use it: commands that work as they stand, from the root of the repository.
///
/// # Errors
/// A process is gone.
pub(crate) fn say_how(stack: &Stack, folder: &Folder, screen: &Screen) -> anyhow::Result<()> {
    let heading = |text: &str| {
        screen.line("");
        screen.line(&screen.styled(Style::Bold, text));
    };
    heading("Everything is left running until Ctrl-C");
    screen.text("In another shell, from the root of the repository:");
    screen.command(&format!("source {}", folder.env_file_shown()));

    heading("kubectl");
    screen.command(&format!("kubectl get apb --namespace {NAMESPACE} --watch"));
    screen.command(&format!(
        "kubectl annotate apb {BINDING} --namespace {NAMESPACE} --overwrite acrpull.microsoft.com/refresh-requested=\"$(date)\""
    ));
    screen.command(&format!(
        "kubectl patch apb {BINDING} --namespace {NAMESPACE} --type merge \\\n      \
         -p '{{\"spec\": {{\"acr\": {{\"scope\": \"repository:{OTHER_REPOSITORY}:pull\"}}}}}}'"
    ));
    screen.command(&format!(
        "kubectl delete apb {BINDING} --namespace {NAMESPACE}   # Secret and link go with it"
    ));

    heading("curl: the broker over HTTP, as the syncer");
    screen.text(
        "The identity is the broker's own, and the grant is for this namespace. The answer holds a credential: do not \
         paste it anywhere.",
    );
    let request = format!(
        "REQUEST='{{\"binding\": {{\"namespace\": \"{GRANTED_NAMESPACE}\", \"name\": \"by-hand\"}}, \"serviceAccounts\": \
         [\"by-hand\"],\n      \"registry\": \"{REGISTRY}\", \"scopes\": [\"{SCOPE}\"],\n      \
         \"brokerOwned\": {{\"clientId\": \"{}\"}}}}'",
        owned_identity().client_id
    );
    screen.command(&request);
    screen.command(
        "curl --cacert \"$ACRPULL_BROKER_CA_FILE\" -H \"authorization: Bearer $(cat \"$ACRPULL_SYNCER_TOKEN_FILE\")\" \\\n      \
         -H \"content-type: application/json\" -d \"$REQUEST\" \"$ACRPULL_BROKER_HTTP/v1/docker-config\"",
    );
    screen.command("curl \"$ACRPULL_BROKER_ADMIN/metrics\"");

    heading("grpcurl: the same over gRPC");
    screen.text("Reflection is off, so it needs the contract's own file.");
    screen.command(
        "grpcurl -cacert \"$ACRPULL_BROKER_CA_FILE\" -H \"authorization: Bearer $(cat \"$ACRPULL_SYNCER_TOKEN_FILE\")\" \\\n      \
         -import-path proto -proto acrpull/broker/v1/credential_service.proto -d \"$REQUEST\" \\\n      \
         \"$ACRPULL_BROKER_GRPC\" acrpull.broker.v1.CredentialService/GetDockerConfig",
    );

    heading("The simulated Azure");
    screen.text("What it was asked and why it answered so; then, the next three requests for an access token are throttled.");
    screen.command("curl \"$ACRPULL_SIMULATOR_ADMIN/log\"");
    screen.command(
        "curl \"$ACRPULL_SIMULATOR_ADMIN/faults\" -d '{\"match\": {\"service\": \"acr\", \"op\": \"token\"}, \"times\": 3,\n      \
         \"action\": {\"type\": \"throttle\", \"retry_after\": 7}}'",
    );

    heading("Logs and processes");
    screen.command("tail -f \"$ACRPULL_LOGS\"/acrpull-*.log");
    screen.command("kill \"$ACRPULL_PID_BROKER\"   # ends the demo: nothing restarts it here");
    screen.line("");
    screen.note(&format!(
        "the broker is {}; Ctrl-C ends everything",
        stack.broker_url()?
    ));
    Ok(())
}
