//! A panic is one line in the log, and never what it was about: a formatted message may hold what must not be seen.
//!
//! What becomes of the process is not decided here: a supervised task takes it along ([`crate::tasks`]), a request
//! fails alone.

use std::{any::Any, panic::PanicHookInfo};

/// Stands for a message that was put together while the process ran.
const WITHHELD: &str = "(not shown: it may hold secrets)";

/// From here on panics are logged instead of printed. Call it once there is a log.
pub(crate) fn log_them() {
    std::panic::set_hook(Box::new(log));
}

fn log(info: &PanicHookInfo<'_>) {
    let place = info.location().map_or_else(String::new, ToString::to_string);
    let thread = std::thread::current();
    tracing::error!(
        place,
        thread = thread.name(),
        "panic: {}",
        public_message(info.payload())
    );
}

/// Text that stands in the source as it is. Anything else was formatted, and `expect` formats the error that it found.
fn public_message(payload: &dyn Any) -> &'static str {
    payload
        .downcast_ref::<&'static str>()
        .copied()
        .unwrap_or(WITHHELD)
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;

    #[test]
    fn l1_panic_message_with_a_value_in_it_is_withheld() {
        let token = "a.secret.token";
        let formatted = catch_unwind(|| panic!("cannot use {token}")).unwrap_err();
        assert_eq!(public_message(&*formatted), WITHHELD);
        let expected = catch_unwind(|| token.parse::<u32>().expect("a number")).unwrap_err();
        assert_eq!(public_message(&*expected), WITHHELD);
    }

    #[test]
    fn panic_message_of_the_source_is_shown() {
        let literal = catch_unwind(|| panic!("the table must be sorted")).unwrap_err();
        assert_eq!(public_message(&*literal), "the table must be sorted");
    }
}
