//! Commands and roles that do one thing to its end: on this thread, with a runtime of its own.
//!
//! **Not here**: the control plane, whose runtime has threads (`cli::up`), and threads of the data plane (`net::router`).

use std::{io, pin::Pin};
use tokio::runtime::Builder;

/// Does work to its end.
///
/// # Errors
/// When the runtime cannot be made, as where no more files may be open.
pub fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let mut done = None;
    run(Box::pin(async { done = Some(work.await) }))?;
    Ok(done.expect("the work has come to its end"))
}

/// Boxed, so that the program has what surrounds a runtime once and not for each kind of work.
fn run(work: Pin<Box<dyn Future<Output = ()> + '_>>) -> io::Result<()> {
    Builder::new_current_thread().enable_all().build()?.block_on(work);
    Ok(())
}
