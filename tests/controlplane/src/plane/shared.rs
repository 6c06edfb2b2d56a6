//! One control plane for all tests of a test binary.

use tokio::sync::OnceCell;

use super::{ControlPlane, ControlPlaneOptions};

static SHARED: OnceCell<ControlPlane> = OnceCell::const_new();

impl ControlPlane {
    /// The plane that all callers of this process share; the first one starts it. Tests keep apart by namespace
    /// ([`ControlPlane::namespace`]).
    ///
    /// Rust drops no statics: the watchdog removes the plane when the process ends. Tests that panic keep its
    /// logs.
    ///
    /// # Errors
    /// As [`ControlPlane::start`]; the next caller tries again.
    pub async fn shared() -> anyhow::Result<&'static Self> {
        SHARED
            .get_or_try_init(|| async {
                let plane = Self::start(ControlPlaneOptions {
                    name: "shared".to_owned(),
                    ..Default::default()
                })
                .await?;
                keep_logs_on_panic();
                Ok(plane)
            })
            .await
    }
}

/// A static outlives every panic, so its drop cannot see one.
fn keep_logs_on_panic() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if let Some(plane) = SHARED.get() {
            plane.keep_logs();
        }
        previous(panic);
    }));
}
