//! Fuzz targets of the syncer: bindings, Secrets and ServiceAccounts as any tenant of the cluster may write them.
//!
//! The schema of the CRD refuses most of this, but it is not always there: a cluster may have the peer's, or an older one.

// `cfg(test)` always holds here: it tells the lints that all of this is test code.
#[cfg(test)]
mod objects;
#[cfg(test)]
mod passes;
