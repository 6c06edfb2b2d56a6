//! What is found about Secrets, and what was left behind by bindings that are gone.

use super::*;

#[test]
fn b6_finding_of_secrets_tells_foreign_ones_from_unmarked_ones() {
    let secret = |change: fn(&mut ObjectMeta)| {
        changed("", |world| {
            let web = Arc::clone(world.bindings.first().unwrap());
            let mut secret = peers_secret(&web);
            change(&mut secret);
            world.add_secret(secret);
        })
    };
    assert_eq!(secret(|_secret| {}), [""; 0]);
    let info = ["Info SecretUnmarked Secret shop/acr-pull-web"];
    assert_eq!(secret(|secret| secret.labels = None), info);
    assert_eq!(secret(|secret| secret.owner_references = None), info);
    let earlier = secret(|secret| {
        let owners = secret.owner_references.iter_mut().flatten();
        owners.for_each(|owner| "earlier".clone_into(&mut owner.uid));
    });
    assert_eq!(earlier, info);
    let foreign = secret(|secret| {
        secret.labels = None;
        secret.owner_references = None;
    });
    assert_eq!(foreign, ["Blocker ForeignSecret Secret shop/acr-pull-web"]);
}

#[test]
fn b12_finding_of_what_has_no_binding_is_made_only_where_all_bindings_are_known() {
    let left = |is_whole: bool| {
        changed("", |world| {
            world.is_whole = is_whole;
            world.add_secret(peers_secret(&binding("gone", managed_identity_spec())));
            world.link("puller", "acr-pull-gone");
            world.link("puller", "acr-pull-long-gone");
            world.link("puller", "registry-login");
        })
    };
    assert_eq!(
        left(true),
        [
            "Info SecretWithoutBinding Secret shop/acr-pull-gone",
            "Info LinkWithoutBinding ServiceAccount shop/puller"
        ]
    );
    assert_eq!(left(false), [""; 0]);
}
