//! Where an Entra token comes from: each source, alone and in two tenants, and what each costs Azure.

use std::sync::Arc;

use azure_simulator::{Action, Fault, Operation, Service};
use broker::{
    config::{Identity, IdentitySource},
    credentials::Invalidation,
    request::Wish,
};
use proto::Reason;
use tempfile::TempDir;

use super::{
    rig::{Rig, claims},
    scene::{Ask, ISSUER, OTHER_AUDIENCE, TENANT, client, object},
    two_tenants::{
        ABROAD, APP, APP_ABROAD, BROKER, BROKER_SUBJECT, HOME, MACHINE, abroad, azure, identity, projected,
        two_hops, write_token,
    },
};

async fn refusal(rig: &Rig, ask: &Ask) -> (Reason, String) {
    let error = rig.ask(ask, &Wish::default()).await.err().unwrap();
    (error.reason, error.message.into_owned())
}

async fn succeeds(rig: &Rig, ask: &Ask) {
    let answer = rig.ask(ask, &Wish::default()).await;
    assert!(answer.is_ok(), "{:?}", answer.err());
}

/// Calls to Entra and to the metadata service.
fn entra_and_imds(rig: &Rig) -> (usize, usize) {
    let count = |service| rig.count(service, Operation::Token);
    (count(Service::Entra), count(Service::Imds))
}

#[tokio::test(start_paused = true)]
async fn federated_application_serves_the_registries_of_each_tenant_that_it_is_present_in() {
    let rig = Rig::owning(azure(), Vec::new(), 1);
    succeeds(&rig, &Ask::federated(APP, HOME)).await;
    for registry in ABROAD {
        succeeds(&rig, &abroad(registry)).await;
    }
    assert_eq!(entra_and_imds(&rig), (2, 0), "one token for each tenant");
    // A token of one tenant is none in the other, whatever the caller names.
    let crossed = refusal(&rig, &Ask::federated(APP, ABROAD[0])).await;
    assert_eq!(crossed.0, Reason::RegistryUnauthorized);
}

#[tokio::test(start_paused = true)]
async fn projected_token_is_read_anew_for_each_exchange() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    let rig = Rig::owning(azure(), vec![projected(&file)], 1);
    let ask = Ask::broker_owned(BROKER, HOME);
    let (reason, text) = refusal(&rig, &ask).await;
    assert_eq!(reason, Reason::IdentityTokenUnreadable);
    assert!(text.contains(file.to_str().unwrap()), "{text}");
    assert_eq!(rig.calls().count(), 0, "nothing to ask with");

    // It heals by itself, and hours later another token is in the file.
    write_token(&rig, &file, 3600);
    rig.pass(60).await;
    succeeds(&rig, &ask).await;
    for hour in 1..=30 {
        rig.pass(3600).await;
        write_token(&rig, &file, 3600);
        succeeds(&rig, &ask).await;
        assert_eq!(rig.count(Service::Imds, Operation::Token), 0, "hour {hour}");
    }
    let issued = rig.count(Service::Entra, Operation::Token);
    assert!((2..=3).contains(&issued), "a token lives a day: {issued}");
}

#[tokio::test(start_paused = true)]
async fn projected_token_that_entra_does_not_trust_is_named_by_what_it_says() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    let mut state = azure();
    state.principal_mut(&client(BROKER)).unwrap().fics.clear();
    let rig = Rig::owning(state, vec![projected(&file)], 1);
    write_token(&rig, &file, 3600);
    let (reason, text) = refusal(&rig, &Ask::broker_owned(BROKER, HOME)).await;
    assert_eq!(reason, Reason::FederationRejected);
    let expected = format!(
        "Entra ID has no federated credential that matches issuer {ISSUER}, subject {BROKER_SUBJECT}, from {} \
         (AADSTS700211)",
        file.display()
    );
    assert_eq!(text, expected);
}

#[tokio::test(start_paused = true)]
async fn c4_two_hops_ask_the_metadata_service_once_a_day_for_all_registries() {
    let rig = Rig::owning(azure(), vec![two_hops()], 1);
    for registry in ABROAD {
        succeeds(&rig, &Ask::broker_owned(MACHINE, registry)).await;
    }
    assert_eq!(entra_and_imds(&rig), (1, 1));
    for _ in 0..40 {
        rig.pass(900).await;
        for registry in ABROAD {
            succeeds(&rig, &Ask::broker_owned(MACHINE, registry)).await;
        }
    }
    let (entra, imds) = entra_and_imds(&rig);
    assert!(entra > 2, "the application's token is renewed: {entra}");
    assert_eq!(imds, 1, "ten hours are less than half a day");
}

#[tokio::test(start_paused = true)]
async fn c1_two_hops_are_one_call_each_for_many_at_once() {
    let mut state = azure();
    state.latency_ms = [(Service::Entra, 500), (Service::Imds, 500)].into();
    let rig = Arc::new(Rig::owning(state, vec![two_hops()], 1));
    let asks = (0..100_usize).map(|n| {
        let rig = Arc::clone(&rig);
        async move {
            let ask = Ask {
                namespace: format!("team-{n}"),
                ..Ask::broker_owned(MACHINE, ABROAD[n % 2])
            };
            rig.ask(&ask, &Wish::default()).await.is_ok()
        }
    });
    let answers = futures::future::join_all(asks).await;
    assert!(answers.into_iter().all(|is_served| is_served));
    assert_eq!(entra_and_imds(&rig), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn two_hops_say_which_of_them_failed() {
    let ask = Ask::broker_owned(MACHINE, ABROAD[0]);
    let mut without_identity = azure();
    without_identity.vm.user_assigned.clear();
    let mut without_trust = azure();
    without_trust.principal_mut(&client(APP)).unwrap().fics.clear();
    let without_presence = {
        let mut state = azure();
        state
            .principals
            .retain(|principal| principal.home_tenant.is_none());
        for registry in &mut state.registries {
            registry.roles.retain(|role| role.object_id != object(APP_ABROAD));
        }
        state
    };
    for (state, reason, text) in [
        (
            without_identity,
            Reason::IdentityNotFound,
            "the first of two hops, the identity's own token: identity identity-1 is not assigned to the broker's host"
                .to_owned(),
        ),
        (
            without_trust,
            Reason::FederationRejected,
            format!(
                "the second of two hops, the application's token: Entra ID has no federated credential that matches \
                 identity identity-1 of tenant {TENANT}, audience api://AzureADTokenExchange (AADSTS700211)"
            ),
        ),
        (
            without_presence,
            Reason::IdentityNotFound,
            "the second of two hops, the application's token: the tenant has no identity with this client id \
             (AADSTS700016)"
                .to_owned(),
        ),
    ] {
        let rig = Rig::owning(state, vec![two_hops()], 1);
        assert_eq!(refusal(&rig, &ask).await, (reason, text.clone()));
        let calls = rig.calls().count();
        assert_eq!(refusal(&rig, &ask).await, (reason, text), "and the same from memory");
        assert_eq!(rig.calls().count(), calls);
    }
}

#[tokio::test(start_paused = true)]
async fn s4_two_hops_live_through_an_outage_of_the_metadata_service() {
    let rig = Rig::owning(azure(), vec![two_hops()], 1);
    let ask = Ask::broker_owned(MACHINE, ABROAD[0]);
    succeeds(&rig, &ask).await;
    rig.add_fault(Fault::new(Action::status(500)).on(Service::Imds, Operation::Token));
    for _ in 0..30 {
        rig.pass(900).await;
        succeeds(&rig, &ask).await;
    }
    assert!(
        rig.count(Service::Entra, Operation::Token) > 2,
        "the application was renewed"
    );
}

#[tokio::test(start_paused = true)]
async fn s4_two_hops_whose_first_token_died_early_get_another_before_anybody_notices() {
    let rig = Rig::owning(azure(), vec![two_hops()], 1);
    let ask = Ask::broker_owned(MACHINE, ABROAD[0]);
    succeeds(&rig, &ask).await;
    // The identity is made anew, and trusted anew: what the broker holds is of the old one, and has most of a day left.
    let made_anew = |text: &mut String| {
        if *text == object(MACHINE) {
            *text = object(20);
        }
    };
    let changed = rig.azure.update(|state| {
        for principal in &mut state.principals {
            made_anew(&mut principal.object_id);
            principal
                .fics
                .iter_mut()
                .for_each(|fic| made_anew(&mut fic.subject));
        }
        for registry in &mut state.registries {
            registry
                .roles
                .iter_mut()
                .for_each(|role| made_anew(&mut role.object_id));
        }
    });
    changed.unwrap();
    for _ in 0..24 {
        rig.pass(900).await;
        succeeds(&rig, &ask).await;
    }
    assert_eq!(rig.count(Service::Imds, Operation::Token), 2);
}

#[tokio::test(start_paused = true)]
async fn invalidation_of_an_identity_drops_the_tokens_of_both_hops() {
    let rig = Rig::owning(azure(), vec![two_hops()], 1);
    let ask = Ask::broker_owned(MACHINE, ABROAD[0]);
    succeeds(&rig, &ask).await;
    let what = Invalidation {
        identity: Some("identity-1".to_owned()),
        ..Invalidation::default()
    };
    assert_eq!(
        rig.replicas[0].invalidate(&what),
        4,
        "two of Entra, two of the registry"
    );
    succeeds(&rig, &ask).await;
    assert_eq!(entra_and_imds(&rig), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn federated_failure_with_one_audience_says_nothing_of_another() {
    let rig = Rig::owning(azure(), Vec::new(), 1);
    let good = Ask::federated(APP, HOME);
    let other = Ask {
        audience: OTHER_AUDIENCE.to_owned(),
        ..good.clone()
    };
    let (reason, text) = refusal(&rig, &other).await;
    assert_eq!(reason, Reason::FederationRejected);
    assert!(
        text.contains(OTHER_AUDIENCE) && text.contains("AADSTS700212"),
        "{text}"
    );
    // Not kept from asking by the failure of the other, and then not served to it.
    succeeds(&rig, &good).await;
    rig.pass(1).await;
    assert_eq!(refusal(&rig, &other).await.0, Reason::FederationRejected);
    succeeds(&rig, &good).await;
}

#[tokio::test(start_paused = true)]
async fn e2_registries_are_shown_tokens_for_registries_only_whatever_the_source() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("token");
    let machine_itself = Identity {
        name: "machine-itself".into(),
        ..identity(MACHINE, IdentitySource::Imds)
    };
    let federated_only = Rig::owning(azure(), Vec::new(), 1);
    succeeds(&federated_only, &Ask::federated(APP, HOME)).await;
    let by_imds = Rig::owning(azure(), vec![machine_itself], 1);
    succeeds(&by_imds, &Ask::broker_owned(MACHINE, HOME)).await;
    let by_two_hops = Rig::owning(azure(), vec![two_hops()], 1);
    succeeds(&by_two_hops, &Ask::broker_owned(MACHINE, ABROAD[0])).await;
    let by_projected_token = Rig::owning(azure(), vec![projected(&file)], 1);
    write_token(&by_projected_token, &file, 3600);
    succeeds(&by_projected_token, &Ask::broker_owned(BROKER, HOME)).await;

    for (rig, registry, holder) in [
        (federated_only, HOME, object(APP)),
        (by_imds, HOME, object(MACHINE)),
        (by_two_hops, ABROAD[0], object(APP_ABROAD)),
        (by_projected_token, HOME, object(BROKER)),
    ] {
        let shown = rig.shown();
        let [shown] = shown.as_slice() else {
            panic!("one exchange: {}", shown.len());
        };
        let claims = claims(&shown.entra_token);
        assert_eq!(shown.registry, registry);
        assert_eq!(
            (&claims["aud"], &claims["oid"]),
            (
                &"https://containerregistry.azure.net".into(),
                &holder.as_str().into()
            )
        );
    }
}
