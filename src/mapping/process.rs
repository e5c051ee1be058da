//! A worker process from the daemon's side: pipes with deadlines, and a process that can be killed.

use super::message::{BATCH_MAX, REPLY_MAX, TemplateId, WorkerReply, decode_reply};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::HashSet;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// The time that a new process may take to start, in addition to the deadline of its work.
const START_MAX: Duration = Duration::from_secs(10);
/// The maximum number of bytes read from a dead process's standard error.
const LAST_WORDS_MAX: usize = 4096;

/// A worker process. Dropping it kills it.
pub(super) struct Process {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: ChildStderr,
    /// Bytes of replies that were read but not yet decoded.
    read: Vec<u8>,
    taken: usize,
    /// The templates that it has received.
    pub(super) knows: HashSet<TemplateId>,
    /// The time until which it may still be starting.
    starting: Option<Instant>,
}

/// How a worker ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It did not answer in time.
    Late,
    /// It exceeded its memory limit.
    Memory,
    Stack,
    /// It exited by itself, or by a signal from elsewhere.
    Gone,
}

impl Ending {
    /// The value of the metric's label.
    pub(super) fn reason(self) -> &'static str {
        match self {
            Self::Late => "time",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::Gone => "ended",
        }
    }
}

impl Process {
    pub(super) fn start(program: &Path, memory_max: u64, deadline: Duration) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg("mapping-worker")
            .arg(format!("--memory-max={memory_max}"))
            .arg(format!("--deadline-ms={}", deadline.as_millis()))
            .arg(format!("--parent={}", std::process::id()))
            // It must not inherit secrets.
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(io::Error::other("the worker process has no pipes"));
        };
        let process = Self {
            child,
            stdin,
            stdout,
            stderr,
            read: Vec::new(),
            taken: 0,
            knows: HashSet::new(),
            starting: Some(Instant::now() + START_MAX),
        };
        rustix::io::ioctl_fionbio(&process.stdin, true)?;
        rustix::io::ioctl_fionbio(&process.stdout, true)?;
        rustix::io::ioctl_fionbio(&process.stderr, true)?;
        Ok(process)
    }

    /// The time by which a step with this `deadline` must be complete.
    fn until(&self, deadline: Duration) -> Instant {
        let until = Instant::now() + deadline;
        self.starting.map_or(until, |starting| starting.max(until))
    }

    pub(super) fn send(&mut self, message: &[u8], deadline: Duration) -> Result<(), Ending> {
        if message.len() > BATCH_MAX {
            return Err(Ending::Memory);
        }
        let until = self.until(deadline);
        let mut rest = message;
        while !rest.is_empty() {
            match self.stdin.write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(&self.stdin, PollFlags::OUT, until)?;
                }
                Err(_) => return Err(self.how_it_ended()),
            }
        }
        Ok(())
    }

    /// The next reply, which must arrive within `deadline`.
    pub(super) fn receive(&mut self, deadline: Duration) -> Result<WorkerReply, Ending> {
        let until = self.until(deadline);
        loop {
            if let Some(reply) = self.take_reply()? {
                return Ok(reply);
            }
            let filled = self.read.len();
            self.read.resize(filled + (64 << 10), 0);
            let read = self.stdout.read(&mut self.read[filled..]);
            self.read.truncate(filled + *read.as_ref().unwrap_or(&0));
            match read {
                Ok(0) => return Err(self.how_it_ended()),
                Ok(_) => self.starting = None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(&self.stdout, PollFlags::IN, until)?;
                }
                Err(_) => return Err(self.how_it_ended()),
            }
        }
    }

    fn take_reply(&mut self) -> Result<Option<WorkerReply>, Ending> {
        let rest = &self.read[self.taken..];
        let Some((len, rest)) = rest.split_first_chunk() else { return Ok(self.compact()) };
        let len = u32::from_le_bytes(*len) as usize;
        if len > REPLY_MAX {
            return Err(Ending::Gone);
        }
        let Some(message) = rest.get(..len) else { return Ok(self.compact()) };
        let reply = decode_reply(message).map_err(|_| Ending::Gone)?;
        self.taken += 4 + len;
        Ok(Some(reply))
    }

    /// Discards the bytes that were decoded.
    fn compact(&mut self) -> Option<WorkerReply> {
        self.read.drain(..self.taken);
        self.taken = 0;
        None
    }

    /// Why its pipes are closed.
    fn how_it_ended(&mut self) -> Ending {
        // It is dead or about to die: there is nothing left to wait for.
        drop(self.child.kill());
        let Ok(status) = self.child.wait() else { return Ending::Gone };
        let mut words = vec![0; LAST_WORDS_MAX];
        let len = self.stderr.read(&mut words).unwrap_or(0);
        let words = String::from_utf8_lossy(&words[..len]);
        tracing::debug!(%status, %words, "a template worker ended");
        if words.contains("memory allocation of") {
            Ending::Memory
        } else if words.contains("overflowed its stack") || status.signal() == Some(libc::SIGSEGV) {
            Ending::Stack
        } else if status.signal() == Some(libc::SIGXCPU) {
            Ending::Late
        } else {
            Ending::Gone
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may already be dead.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Waits until a pipe is ready or closed.
fn wait(pipe: &impl AsFd, what: PollFlags, until: Instant) -> Result<(), Ending> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Ending::Late);
    }
    let timeout = Timespec {
        tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    match poll(&mut [PollFd::new(pipe, what)], Some(&timeout)) {
        Ok(0) => Err(Ending::Late),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(_) => Err(Ending::Gone),
    }
}
