//! Carries operations out on a runtime of our own and hands their ends to another thread: a queue, and a socket that
//! becomes readable when the queue has something. That thread takes everything there is at once.

use std::future::Future;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::error::Failure;

const THREADS: usize = 2;
const DRAIN_BYTES: usize = 64;

static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// The process's one runtime, made when it is first needed.
pub fn runtime() -> Result<Handle, Failure> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime.handle().clone());
    }
    let made = Builder::new_multi_thread().worker_threads(THREADS).thread_name("aerospike").enable_all().build();
    let made = made.map_err(|error| Failure::Unreachable(error.to_string()))?;
    Ok(RUNTIME.get_or_init(|| made).handle().clone())
}

pub type Ended<T> = (u64, Result<T, Failure>);

struct Queue<T> {
    ended: Mutex<Vec<Ended<T>>>,
    signal: UnixStream,
    is_closed: AtomicBool,
}

/// One taker's door.
pub struct Bridge<T> {
    runtime: Handle,
    queue: Arc<Queue<T>>,
    wake: UnixStream,
}

impl<T: Send + 'static> Bridge<T> {
    pub fn new() -> Result<Self, Failure> {
        let pair = || {
            let (wake, signal) = UnixStream::pair()?;
            wake.set_nonblocking(true)?;
            signal.set_nonblocking(true)?;
            Ok((wake, signal))
        };
        let (wake, signal) = pair().map_err(|error: std::io::Error| Failure::Unreachable(error.to_string()))?;
        let queue = Arc::new(Queue { ended: Mutex::default(), signal, is_closed: AtomicBool::new(false) });
        Ok(Self { runtime: runtime()?, queue, wake })
    }

    /// Readable when there is something to take.
    pub fn fd(&self) -> RawFd {
        self.wake.as_raw_fd()
    }

    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Carries out `work`, whose end is then taken as `call`'s. A panic ends as a failure.
    pub fn start(&self, call: u64, work: impl Future<Output = Result<T, Failure>> + Send + 'static) {
        let queue = self.queue.clone();
        let work = self.runtime.spawn(work);
        self.runtime.spawn(async move {
            let end = work.await.unwrap_or(Err(Failure::Panic));
            if queue.is_closed.load(Ordering::Relaxed) {
                return;
            }
            let was_empty = {
                let mut ended = queue.ended.lock();
                ended.push((call, end));
                ended.len() == 1
            };
            if was_empty {
                // A full socket is readable already.
                let _ = (&queue.signal).write(&[0]);
            }
        });
    }

    /// Everything that has ended since the last time.
    pub fn take(&self) -> Vec<Ended<T>> {
        let mut bytes = [0; DRAIN_BYTES];
        loop {
            match (&self.wake).read(&mut bytes) {
                Ok(DRAIN_BYTES) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        std::mem::take(&mut *self.queue.ended.lock())
    }

    /// Ends that come later are dropped.
    pub fn close(&self) {
        self.queue.is_closed.store(true, Ordering::Relaxed);
    }
}
