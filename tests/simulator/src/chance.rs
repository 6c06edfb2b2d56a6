//! Everything random, from one seed, so that a failing run can be repeated.

use std::sync::{Mutex, PoisonError};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use uuid::Builder;

/// The source of randomness.
pub(crate) struct Chance(Mutex<StdRng>);

/// What one request may need of it, drawn beforehand so that decisions stay pure.
#[derive(Debug, Clone)]
pub(crate) struct Draw {
    /// In 0..1.
    pub(crate) coin: f64,
    /// Identifies the request, as trace or correlation ID.
    pub(crate) request_id: String,
    /// Identifies the token that may come of it.
    pub(crate) token_id: String,
}

impl Chance {
    /// The same seed gives the same sequence.
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }

    /// A number in 0..1.
    pub(crate) fn coin(&self) -> f64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).random()
    }

    /// What one request may need.
    pub(crate) fn draw(&self) -> Draw {
        let mut rng = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut uuid = || Builder::from_random_bytes(rng.random()).into_uuid().to_string();
        let (request_id, token_id) = (uuid(), uuid());
        Draw {
            coin: rng.random(),
            request_id,
            token_id,
        }
    }
}
