//! One reconciliation is one trace, through both processes.

use std::time::Duration;

use e2e::{Trace, binding, poll};

use crate::shared::beside_others;

const PATIENCE: Duration = Duration::from_secs(15);
const ROOT: &str = "reconcile AcrPullBinding";
const CLIENT: &str = "acrpull.broker.v1.CredentialService/GetDockerConfig";

#[test]
fn trace_of_a_reconciliation_continues_in_the_broker_down_to_azure() -> anyhow::Result<()> {
    beside_others(async |stack| {
        let team = stack.team("trace").await?;
        team.federated_account("web").await?;
        team.create(&binding::workload_identity(
            "web",
            "web",
            team.registry(),
            "repository:team/web:pull",
        ))
        .await?;
        team.ready("web").await?;
        let expected = [
            "POST /{tenant}/oauth2/v2.0/token",
            "POST /oauth2/exchange",
            "POST /oauth2/token",
        ];
        let is_of_team = |span: &e2e::Span| {
            span.name == ROOT && span.attribute("acrpull.binding.namespace") == Some(team.namespace())
        };
        let trace: Trace = poll("the spans arrive", PATIENCE, async || {
            let traces = stack.collector().traces_with(is_of_team);
            let whole = traces.iter().find(|trace| {
                expected
                    .iter()
                    .chain(&["apply Secret"])
                    .all(|name| trace.span(name).is_some())
            });
            let shown = || {
                traces
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("\n")
            };
            Ok(whole.cloned().ok_or_else(|| format!("there are\n{}", shown())))
        })
        .await?;

        for name in expected {
            let span = trace.span(name).unwrap();
            assert_eq!(span.service, "acrpull-broker");
            assert_eq!(
                span.attribute("http.response.status_code"),
                Some("200"),
                "{trace}"
            );
            // Call to Azure, server's side, client's side, reconciliation.
            let path = trace.path_up(span);
            assert_eq!(path.last(), Some(&ROOT), "{trace}");
            let sides = path.iter().filter(|&&name| name == CLIENT).count();
            assert_eq!(sides, 2, "{trace}");
        }
        for (name, service) in [
            ("POST serviceaccounts/{name}/token", "acrpull-syncer"),
            ("apply Secret", "acrpull-syncer"),
        ] {
            let span = trace
                .span(name)
                .unwrap_or_else(|| panic!("no {name} in\n{trace}"));
            assert_eq!(
                (span.service.as_str(), trace.path_up(span).last()),
                (service, Some(&ROOT)),
                "{trace}"
            );
        }
        let server = trace
            .spans()
            .iter()
            .find(|span| span.name == CLIENT && span.service == "acrpull-broker");
        let server = server.unwrap_or_else(|| panic!("no server span in\n{trace}"));
        assert_eq!(server.attribute("acrpull.cluster"), Some(e2e::CLUSTER));
        assert_eq!(
            server.attribute("acrpull.binding.namespace"),
            Some(team.namespace())
        );
        assert_eq!(server.attribute("acrpull.registry.server"), Some(team.registry()));
        Ok(())
    })
}
