//! The two halves of a stream as one, and how a stream ends.

use crate::hub::talk::Lost;
use crate::jid::Domain;
use crate::net::outbox::End;
use crate::stream::peer::{Ask, Callback, Failure, Initiating, Receiving, Verdict};
use crate::stream::trust::{Distrust, Trusted};
use crate::stream::{self, Condition};
use crate::xml::{Caps, Kind, Scan, Scope};
use std::rc::Rc;

/// Either half of a stream.
pub(super) enum Half {
    In(Box<Receiving>),
    Out(Box<Initiating>),
}

impl Half {
    pub fn frame(
        &mut self,
        kind: Kind,
        frame: &[u8],
        scan: &mut Scan,
        caps: &Caps,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Failure> {
        match self {
            Half::In(half) => Ok(half.frame(kind, frame, scan, caps, out)?),
            Half::Out(half) => half.frame(kind, frame, scan, caps, out),
        }
    }

    pub fn judged(
        &mut self,
        judgement: Result<Trusted, Distrust>,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Failure> {
        match self {
            Half::In(half) => Ok(half.judged(judgement, out)?),
            Half::Out(half) => half.judged(judgement, out),
        }
    }

    pub fn vouched(&mut self, ours: bool, out: &mut Vec<u8>) {
        match self {
            Half::In(half) => half.vouched(ours, out),
            Half::Out(half) => half.vouched(ours, out),
        }
    }

    pub fn verified(
        &mut self,
        call: &Callback,
        verdict: Verdict,
        out: &mut Vec<u8>,
    ) -> Result<Option<Ask>, Failure> {
        match self {
            Half::In(half) => Ok(half.verified(&call.local, &call.remote, verdict, out)?),
            Half::Out(half) => half.verified(&call.local, &call.remote, verdict, out),
        }
    }

    pub fn fail(&mut self, failure: &Failure, out: &mut Vec<u8>) {
        match (self, failure) {
            (Half::In(half), Failure::Broken(error)) => half.fail(error, out),
            (Half::In(_), _) => {}
            (Half::Out(half), _) => half.fail(failure, out),
        }
    }

    pub fn restarts(&mut self) -> bool {
        match self {
            Half::In(half) => half.restarts(),
            Half::Out(half) => half.restarts(),
        }
    }

    pub fn scope(&self) -> Rc<Scope> {
        match self {
            Half::In(half) => half.scope().clone(),
            Half::Out(half) => half.scope().clone(),
        }
    }

    /// Who the other side is, or says that it is.
    pub fn remote(&self) -> Option<&Domain> {
        match self {
            Half::In(half) => half.claims(),
            Half::Out(half) => Some(&half.wanted().remote),
        }
    }
}

/// How a stream ends.
#[derive(Debug)]
pub(super) enum Over {
    /// In good order.
    Closed,
    /// Somebody broke a rule, or is not who he should be.
    Failed(Failure),
    /// The connection is gone, or nobody answers any more.
    Dead(&'static str),
    /// Somebody here has ended it.
    Killed(End),
    /// What was asked is answered.
    Answer(Verdict),
    /// What there was to say for a pairing is said.
    Paired,
}

impl From<Failure> for Over {
    fn from(failure: Failure) -> Over {
        Over::Failed(failure)
    }
}

impl From<stream::Error> for Over {
    fn from(error: stream::Error) -> Over {
        Over::Failed(Failure::Broken(error))
    }
}

/// What follows of a failure for what waits: whether it is to be kept.
pub(super) fn lost(failure: &Failure, on_record: bool) -> Lost {
    use crate::stream::peer::Condition as Said;
    let passing = match failure {
        // Somebody has written that domain down: it is right, and will be trusted again (threats I6).
        _ if on_record => true,
        Failure::Distrust(_) | Failure::StarttlsNotOffered | Failure::NothingOffered | Failure::Invalid => {
            false
        }
        Failure::Dialback(Said::ItemNotFound | Said::NotAuthorized | Said::Forbidden, _) => false,
        Failure::Auth(condition, _) => *condition == stream::sasl::Condition::TemporaryAuthFailure,
        Failure::Stream(error) => !matches!(
            error.condition,
            Condition::HostUnknown
                | Condition::HostGone
                | Condition::NotAuthorized
                | Condition::PolicyViolation
        ),
        _ => true,
    };
    if passing { Lost::Timeout } else { Lost::NotFound }
}
