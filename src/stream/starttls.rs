//! STARTTLS (RFC 6120 §5): three elements, both halves.

use super::header::FOOTER;
use crate::xml::{Writer, ns};

/// Receiving: §5.4.2.3, TLS comes next.
pub(super) fn proceed(out: &mut Vec<u8>) {
    Writer::new(out).leaf("proceed", ns::TLS);
}

/// Receiving: §5.4.2.2, there is no TLS to be had here; the stream is closed.
pub(super) fn refuse(out: &mut Vec<u8>) {
    Writer::new(out).leaf("failure", ns::TLS);
    out.extend_from_slice(FOOTER);
}

/// Initiating: §5.4.2.1.
pub(super) fn ask(out: &mut Vec<u8>) {
    Writer::new(out).leaf("starttls", ns::TLS);
}

/// Initiating: what the server answers to [`ask`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    Proceed,
    Failure,
}

/// Initiating: reads the answer.
pub(super) fn answer(name: (&str, &str)) -> Option<Answer> {
    match name {
        (ns::TLS, "proceed") => Some(Answer::Proceed),
        (ns::TLS, "failure") => Some(Answer::Failure),
        _ => None,
    }
}
