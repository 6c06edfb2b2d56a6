//! Fuzz targets of the broker's edges: tokens, keys, requests, the configuration, and the payload that it renders.

// `cfg(test)` always holds here: it tells the lints that all of this is test code.
#[cfg(test)]
mod configuration;
#[cfg(test)]
mod requests;
#[cfg(test)]
mod signer;
#[cfg(test)]
mod tokens;
