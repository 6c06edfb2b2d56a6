//! The section `limits`, of the whole file and of one cluster.

use serde::Deserialize;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Limits {
    pub(in crate::config) per_cluster: Option<Rate>,
    pub(in crate::config) per_namespace: Option<Rate>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(in crate::config) struct Rate {
    pub(in crate::config) requests_per_second: u32,
    pub(in crate::config) burst: u32,
}
