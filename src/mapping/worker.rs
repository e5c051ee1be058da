//! A worker process: evaluates the templates that it receives until its input ends. It limits its own resources,
//! opens nothing, and dies with the daemon.

use super::jsonnet::{Compiled, Engine, natives};
use super::message::{
    BATCH_MAX, Evaluation, TemplateId, WorkerBatch, WorkerJob, WorkerReply, decode_batch, encode_reply,
};
use super::{MappingRequest, TemplateError};
use rsjsonnet_lang::arena::Arena;
use rustix::process::{Resource, Rlimit, Signal, getppid, setrlimit};
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

/// Room for nested constructs in a template's text.
const STACK_BYTES: u64 = 64 << 20;
/// Beyond this number of templates in memory, the worker asks to be replaced.
const TEMPLATES_MAX: usize = 2_000;
/// How long an answer waits for others to be sent with it.
const HELD_BACK: Duration = Duration::from_millis(5);
/// How often the process's resource use is checked.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The arguments with which a worker starts.
#[derive(Debug, Clone, Copy)]
pub struct WorkerLimits {
    /// Memory beyond what the process has when it starts, in bytes.
    pub memory_max: u64,
    /// The time limit of one template. The daemon kills a worker that exceeds it; the limit of processor time
    /// applies if the daemon cannot.
    pub deadline: Duration,
    /// The daemon's process id.
    pub parent: u32,
}

/// Takes work from `input` until it ends.
pub fn run(limits: WorkerLimits) -> io::Result<()> {
    if !die_with(limits.parent)? {
        return Ok(());
    }
    confine(limits.memory_max)?;
    serve(limits, &mut io::stdin().lock(), &mut io::stdout().lock())
}

/// Asks the kernel to kill this process when the daemon ends. Returns false if the daemon has already ended.
fn die_with(parent: u32) -> io::Result<bool> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    let now = getppid().map(|parent| parent.as_raw_nonzero().get());
    Ok(now.and_then(|now| u32::try_from(now).ok()) == Some(parent))
}

/// Sets limits for the rest of this process's life.
fn confine(memory_max: u64) -> io::Result<()> {
    let limit = |resource, current| {
        let maximum = rustix::process::getrlimit(resource).maximum;
        let current = maximum.map_or(current, |maximum| maximum.min(current));
        setrlimit(resource, Rlimit { current: Some(current), maximum: Some(current) })
    };
    // The stack grows up to the limit at the time of growth.
    limit(Resource::Stack, STACK_BYTES)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::As, mapped_bytes()?.saturating_add(memory_max))?;
    Ok(())
}

/// The size of this process's address space.
fn mapped_bytes() -> io::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/statm")?;
    let pages: Option<u64> = status.split(' ').next().and_then(|pages| pages.parse().ok());
    let pages = pages.ok_or_else(|| io::Error::other("/proc/self/statm has an unexpected format"))?;
    Ok(pages * rustix::param::page_size() as u64)
}

/// The main loop of a worker, over any pipes.
pub(super) fn serve(limits: WorkerLimits, input: &mut impl Read, output: &mut impl Write) -> io::Result<()> {
    let arena = Arena::new();
    let mut worker = Worker {
        engine: Engine::new(&arena),
        templates: HashMap::new(),
        out: Vec::new(),
        looked: None,
        sent: Instant::now(),
        mapped_at_start: mapped_bytes()?,
        limits,
    };
    let mut message = Vec::new();
    loop {
        let mut len = [0; 4];
        match input.read_exact(&mut len) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let len = u32::from_le_bytes(len) as usize;
        if len > BATCH_MAX {
            return Err(io::Error::other("the batch exceeds the maximum message size"));
        }
        message.clear();
        message.reserve(len);
        input.by_ref().take(len as u64).read_to_end(&mut message)?;
        let batch = decode_batch(&message).map_err(io::Error::other)?;
        worker.work(&batch, output)?;
    }
}

struct Worker<'p> {
    engine: Engine<'p>,
    templates: HashMap<TemplateId, Result<Compiled<'p>, String>>,
    /// Answers not sent yet.
    out: Vec<u8>,
    /// When answers were last sent, and when the limit of processor time was last set.
    sent: Instant,
    looked: Option<Instant>,
    mapped_at_start: u64,
    limits: WorkerLimits,
}

impl Worker<'_> {
    fn work(&mut self, batch: &WorkerBatch<'_>, output: &mut impl Write) -> io::Result<()> {
        self.sent = Instant::now();
        for (id, text) in &batch.new {
            let compiled = self.engine.compile(text);
            self.templates.insert(*id, compiled);
        }
        for job in &batch.jobs {
            match job {
                WorkerJob::Check(text) => {
                    let reply = match self.engine.compile(text) {
                        Ok(_) => WorkerReply::Value(String::new()),
                        Err(message) => WorkerReply::Failed(TemplateError::Template(message)),
                    };
                    self.answer(&reply, batch.hasty, output)?;
                }
                WorkerJob::Evaluate(evaluation) => self.evaluate(evaluation, batch.hasty, output)?,
            }
        }
        let retiring = self.is_retiring()?;
        self.answer(&WorkerReply::Done { retiring }, true, output)
    }

    /// The values up to the first template that fails.
    fn evaluate(&mut self, job: &Evaluation<'_>, hasty: bool, output: &mut impl Write) -> io::Result<()> {
        let request = MappingRequest {
            body: job.body,
            content_type: job.content_type,
            headers: &job.headers,
            ip: job.ip,
            received_at: job.received_at,
        };
        let mut natives = natives(&request);
        for (id, raw) in &job.templates {
            self.watch_time()?;
            let value = match self.templates.get(id) {
                Some(Ok(template)) => self.engine.evaluate(template, &mut natives, *raw),
                Some(Err(message)) => Err(TemplateError::Template(message.clone())),
                None => return Err(io::Error::other("the daemon did not send a template of this job")),
            };
            let failed = value.is_err();
            let reply = value.map_or_else(WorkerReply::Failed, WorkerReply::Value);
            self.answer(&reply, hasty, output)?;
            if failed {
                break;
            }
        }
        Ok(())
    }

    fn answer(&mut self, reply: &WorkerReply, now: bool, output: &mut impl Write) -> io::Result<()> {
        self.out.extend_from_slice(&encode_reply(reply));
        if now || self.sent.elapsed() >= HELD_BACK {
            output.write_all(&self.out)?;
            output.flush()?;
            self.out.clear();
            self.sent = Instant::now();
        }
        Ok(())
    }

    /// Renews the limit of processor time from time to time.
    fn watch_time(&mut self) -> io::Result<()> {
        if self.looked.is_some_and(|looked| looked.elapsed() < LOOK_EVERY) {
            return Ok(());
        }
        self.looked = Some(Instant::now());
        let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime).tv_sec;
        let more = self.limits.deadline.as_secs().saturating_add(2);
        let current = u64::try_from(used).unwrap_or(0).saturating_add(more);
        let maximum = rustix::process::getrlimit(Resource::Cpu).maximum;
        setrlimit(Resource::Cpu, Rlimit { current: Some(current), maximum })?;
        Ok(())
    }

    /// Whether the process has accumulated so much memory that a new one is better.
    fn is_retiring(&self) -> io::Result<bool> {
        let grown = mapped_bytes()?.saturating_sub(self.mapped_at_start);
        Ok(self.templates.len() > TEMPLATES_MAX || grown > self.limits.memory_max / 2)
    }
}
