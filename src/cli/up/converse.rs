//! The conversation with the agent that an `up`, or an attachment, is: shown as it goes, to its end.

use std::time::Duration;

use crate::cli::Context;
use crate::cli::conversation::Conversation;
use crate::cli::display::Display;
use crate::cluster::Removal;
use crate::error::Error;
use crate::plan::Plan;
use crate::provision::Failure;
use crate::session::protocol::{Reply, Request};
use crate::session::record::Record;
use crate::suite::run::Interrupts;

/// How one conversation with an agent ended.
pub enum Outcome {
    /// Everything is ready.
    Ready {
        /// What is on disk.
        record: Box<Record>,
        /// Milliseconds.
        took: u64,
    },
    /// It is at work, and the caller did not want to wait.
    Accepted,
    /// It did not come up.
    Failed {
        /// Why.
        failure: Box<Failure>,
        /// Whether the session stays.
        kept: bool,
        /// What removing it came to.
        removal: Removal,
    },
    /// This command was interrupted and, where it had created the session, took it down again.
    Interrupted(Option<Removal>),
    /// Someone else took the session down meanwhile.
    TakenDown(Option<String>),
    /// The agent is gone without a word.
    Died(Error),
    /// The session is being taken down: wait for its end, then start anew.
    Again,
}

/// Shows what an `up` or `attach` that was just asked for is doing, to its end. An interruption cancels what this
/// command `created`.
///
/// # Errors
/// When the agent refuses, or signals cannot be received.
pub async fn converse(
    context: &mut Context,
    plan: &Plan,
    conversation: &mut Conversation,
    created: bool,
    detach: bool,
) -> Result<Outcome, Error> {
    let mut interrupts = Interrupts::new().map_err(Error::io("receive signals"))?;
    let out = &mut context.out;
    let mut display = Display::new(out, &plan.environment, plan.nodes.iter().map(|node| node.id.clone()));
    // Only so that the live table's clocks go on; nothing waits for it.
    let mut clock = tokio::time::interval(Duration::from_millis(500));
    let mut interrupted = 0;
    let mut heard = false;
    let mut failed: Option<Box<Failure>> = None;
    loop {
        let reply = tokio::select! {
            reply = conversation.next_or_end() => reply?,
            _ = clock.tick(), if out.live() && failed.is_none() && interrupted == 0 => {
                display.tick(out);
                continue;
            }
            _ = interrupts.next() => {
                interrupted += 1;
                if !created {
                    return Ok(Outcome::Interrupted(None));
                }
                display.close();
                if interrupted == 1 {
                    out.say("interrupted: taking the session down (again to kill it)");
                    conversation.ask(Request::Cancel).await?;
                } else {
                    conversation.ask(Request::Kill).await?;
                }
                continue;
            }
        };
        // It ended with this connection in its queue: what its creator's end, or another command, had asked for.
        if reply.is_none() && !heard && !created && interrupted == 0 {
            return Ok(Outcome::Again);
        }
        heard = true;
        match reply {
            Some(Reply::Event(event)) if interrupted == 0 => display.event(out, &event),
            Some(Reply::Event(_) | Reply::Status(_) | Reply::Creators { .. }) => {}
            Some(Reply::Queued) => {
                display.say(out, "another `up` is at work on this session; waiting for it, then applying what changed");
            }
            Some(Reply::Accepted) if detach => return Ok(Outcome::Accepted),
            Some(Reply::Accepted) => {}
            Some(Reply::Up { record, took }) => {
                display.close();
                return Ok(Outcome::Ready { record, took });
            }
            Some(Reply::Failed { failure, kept: true }) => {
                return Ok(Outcome::Failed { failure, kept: true, removal: Removal::default() });
            }
            Some(Reply::Failed { failure, kept: false }) => failed = Some(failure),
            Some(Reply::Ending) => return Ok(Outcome::Again),
            Some(Reply::Ended { removal, why }) => {
                return Ok(match failed {
                    Some(failure) => Outcome::Failed { failure, kept: false, removal },
                    None if interrupted > 0 => Outcome::Interrupted(Some(removal)),
                    None => Outcome::TakenDown(why),
                });
            }
            None if interrupted > 0 => return Ok(Outcome::Interrupted(Some(Removal::default()))),
            Some(Reply::Mismatch { .. } | Reply::Refused { .. }) | None => {
                return Ok(Outcome::Died(conversation.died()));
            }
        }
    }
}
