//! What a fault makes of an answer's content: its body, its JSON, the token in it.

use serde::{Deserialize, Serialize};

/// A body instead of the service's own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BodyVariant {
    /// This text.
    Raw(String),
    /// Nothing.
    Empty,
    /// A page, as proxies send it.
    Html,
    /// So many bytes of valid JSON text.
    Huge(usize),
    /// The service's body after a byte order mark.
    Bom,
    /// Bytes that are not UTF-8.
    InvalidUtf8,
    /// The service's body with every member of the object twice.
    DuplicateKeys,
    /// Ten thousand arrays in each other.
    DeepJson,
}

/// Oddities in a JSON body.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is an oddity of its own, in any combination"
)]
pub struct JsonQuirk {
    /// `expires_in` is text.
    pub expires_in_string: bool,
    /// `expires_on` is a number.
    pub expires_on_number: bool,
    /// The trailer of `error_description` is separated by CR LF.
    pub crlf_description: bool,
    /// Apostrophes are written `\u0027`.
    pub unicode_escapes: bool,
    /// A member nobody knows.
    pub extra_fields: bool,
    /// Every other member that is not a token is null.
    pub null_fields: bool,
    /// These members are left out.
    pub missing: Vec<String>,
}

/// Something wrong with the token that is issued.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a defect of its own; names are the JSON"
)]
pub struct TokenFault {
    /// Its lifetime.
    pub ttl_s: Option<i64>,
    /// Added to `exp`.
    pub exp_delta_s: i64,
    /// Added to `nbf`.
    pub nbf_delta_s: i64,
    /// Added to `iat`.
    pub iat_delta_s: i64,
    /// How `exp` is written.
    pub exp_as: ExpiryAs,
    /// No JWT at all.
    pub opaque: bool,
    /// Empty text.
    pub empty: bool,
    /// Three parts that are not base64.
    pub not_b64: bool,
    /// Another `aud`.
    pub wrong_aud: Option<String>,
    /// Without a signature.
    pub header_none: bool,
    /// With so many bytes of padding.
    pub size_bytes: Option<usize>,
}

/// How `exp` is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExpiryAs {
    /// As it should be.
    #[default]
    Number,
    /// With a fraction.
    Float,
    /// As text.
    String,
    /// Not at all.
    Missing,
}
