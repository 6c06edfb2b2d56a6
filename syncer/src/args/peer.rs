//! Flags of the peer that change nothing here. They are accepted, so that its arguments can be kept as they are, and
//! checked, because one that could not have worked there is a mistake here too.

use std::str::FromStr;

use clap::Args;

/// Flags without effect.
#[derive(Debug, Args)]
pub struct PeerArgs {
    /// Accepted from Azure/msi-acrpull and ignored: the broker says when a token is to be renewed.
    #[arg(long, value_name = "FRACTION")]
    pub ttl_rotation_fraction: Option<RotationFraction>,
}

/// A share of a token's life.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RotationFraction(f64);

/// Why a text is no share of a life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a number between 0 and 1, without these two")]
pub struct RotationFractionError;

impl PeerArgs {
    /// Says what was ignored. Once, at the start.
    pub fn warn(&self) {
        if let Some(RotationFraction(fraction)) = self.ttl_rotation_fraction {
            tracing::warn!(
                fraction,
                "--ttl-rotation-fraction is ignored: the broker says when a token is to be renewed"
            );
        }
    }
}

impl FromStr for RotationFraction {
    type Err = RotationFractionError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.parse::<f64>() {
            // Written so that what is not a number is refused as well.
            Ok(fraction) if 0.0 < fraction && fraction < 1.0 => Ok(Self(fraction)),
            Ok(_) | Err(_) => Err(RotationFractionError),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn b22_rotation_fraction_lies_strictly_between_0_and_1() {
        for text in ["0.5", "0.01", "0.999", ".5", "5e-1"] {
            assert!(text.parse::<RotationFraction>().is_ok(), "{text}");
        }
        for text in [
            "0", "-0", "0.0", "1", "1.0", "1.5", "-0.5", "NaN", "inf", "", "half", "50%",
        ] {
            assert_eq!(
                text.parse::<RotationFraction>(),
                Err(RotationFractionError),
                "{text}"
            );
        }
    }
}
