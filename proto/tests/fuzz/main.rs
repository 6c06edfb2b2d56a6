//! Fuzz targets of the contract: names, ids and messages as anybody may send them.

// `cfg(test)` always holds here: it tells the lints that all of this is test code.
#[cfg(test)]
mod messages;
#[cfg(test)]
mod names;
