//! Guarantee L2, as far as the type goes: nothing prints a secret, and its memory is wiped when the last owner lets go.

use std::{
    fmt,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    marker::PhantomData,
};

use serde::Serialize;

use super::*;

trait Absent {
    const IS_IMPLEMENTED: bool = false;
}

/// Whether a type has a trait: an inherent constant, which exists where it has, hides the one that all types have.
macro_rules! implements {
    ($type:ty: $($bound:tt)+) => {{
        struct Probe<T>(PhantomData<T>);
        impl<T> Absent for Probe<T> {}
        #[allow(dead_code, reason = "not used for a type without the trait")]
        impl<T: $($bound)+> Probe<T> {
            const IS_IMPLEMENTED: bool = true;
        }
        Probe::<$type>::IS_IMPLEMENTED
    }};
}

#[test]
fn l2_secret_has_no_trait_that_shows_it() {
    assert!(
        implements!(String: fmt::Debug) && implements!(String: Serialize),
        "the probe finds what is there"
    );
    assert!(!implements!(Secret: fmt::Debug));
    assert!(!implements!(Secret: fmt::Display));
    assert!(!implements!(Secret: fmt::LowerHex));
    assert!(!implements!(Secret: Serialize));
    assert!(!implements!(Secret: AsRef<str>));
    assert!(!implements!(Secret: std::ops::Deref));
    assert!(!implements!(Secret: Into<String>));
}

/// Looks at the memory of this process from outside, as a core dump would show it.
#[cfg(target_os = "linux")]
#[test]
fn l2_secret_is_wiped_when_its_last_owner_lets_go() {
    const CANARY: &str = "canary-of-a-secret";
    let secret = Secret::from(CANARY.repeat(100));
    let (address, length) = (secret.expose().as_ptr() as u64, secret.expose().len());
    // Set up before: an allocation in between could be given the very memory that is looked at.
    let (mut memory, mut bytes) = (File::open("/proc/self/mem").unwrap(), vec![0; length]);
    let mut seen = || {
        memory.seek(SeekFrom::Start(address)).unwrap();
        // Memory that is not there any more shows nothing.
        let read = memory.read(&mut bytes).unwrap_or_default();
        bytes[..read]
            .windows(CANARY.len())
            .any(|window| window == CANARY.as_bytes())
    };
    let other_owner = secret.clone();
    drop(secret);
    assert!(seen(), "another owner still needs it");
    drop(other_owner);
    assert!(!seen(), "the last owner is gone");
}
