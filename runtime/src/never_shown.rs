//! [`never_shown!`](crate::never_shown): a type that holds secrets says so, and does not compile any more with a way to
//! print it.
//!
//! A derived implementation is impossible anyway where a field is a [`Secret`](crate::Secret). This catches those that are
//! written by hand, and types whose secrets are plain bytes because a library wants them so.

pub use serde::Serialize;

/// Fails to compile when one of these types has `Debug`, `Display` or `Serialize`.
///
/// ```
/// struct Credential(runtime::Secret);
/// runtime::never_shown!(Credential);
/// ```
/// ```compile_fail
/// struct Credential(runtime::Secret);
/// runtime::never_shown!(Credential);
/// impl std::fmt::Debug for Credential {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         f.write_str(self.0.expose())
///     }
/// }
/// ```
/// ```compile_fail
/// runtime::never_shown!(Vec<u8>);
/// ```
#[macro_export]
macro_rules! never_shown {
    ($($type:ty),+ $(,)?) => {$(
        const _: fn() = || {
            struct ByDebug;
            struct ByDisplay;
            struct BySerialize;
            trait Shown<Way> {
                fn is_ambiguous() {}
            }
            impl<T: ?Sized> Shown<()> for T {}
            impl<T: ?Sized + ::std::fmt::Debug> Shown<ByDebug> for T {}
            impl<T: ?Sized + ::std::fmt::Display> Shown<ByDisplay> for T {}
            impl<T: ?Sized + $crate::never_shown::Serialize> Shown<BySerialize> for T {}
            // With one implementation the compiler knows which is meant; with two it stops.
            <$type as Shown<_>>::is_ambiguous();
        };
    )+};
}

never_shown!(crate::Secret, crate::file_watch::ReadFiles);
