//! The sections as YAML, to be pasted into the broker's configuration or redirected into a file.

use std::fmt::Write as _;

use serde::Serialize;

use super::{Declared, FILL_IN, Grant, Sections};
use crate::preflight::object::printable;

/// What goes into the broker's configuration.
#[derive(Serialize)]
struct Written<'a> {
    identities: &'a [Declared],
    grants: &'a [Grant],
}

impl Sections {
    /// As YAML, with comments about what the operator has to do.
    ///
    /// # Errors
    /// It is not expressible as YAML.
    pub(in crate::preflight) fn yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        let sections = on_one_line_each(&Written {
            identities: &self.identities,
            grants: &self.grants,
        })?;
        let mut notes = String::from(
            "# What the bindings of this cluster ask for, and no more. Read it as a request, and not as an approval.\n",
        );
        let mut note = |text: &str| {
            // Writing to a string does not fail.
            let _written = writeln!(notes, "# {}", printable(text));
        };
        if !self.identities.is_empty() {
            note("An identity with another source, or with an application: docs/federation.md.");
        }
        if sections.contains(FILL_IN) {
            note(&format!(
                "Write the tenant and the cluster in place of {FILL_IN}, or give --tenant and --cluster."
            ));
        }
        for left_out in &self.left_out {
            note(&format!("Left out: {}: {}.", left_out.binding, left_out.why));
        }
        Ok(notes + &sections)
    }
}

/// YAML in which a long text stays on its line.
pub(in crate::preflight) fn on_one_line_each(
    value: &impl Serialize,
) -> Result<String, serde_saphyr::ser::Error> {
    let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
    serde_saphyr::to_string_with_options(value, options)
}
