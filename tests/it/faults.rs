//! Injects faults of the disk and the clock: `faults.c`, preloaded into the daemon.

use crate::support::Setup;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use tempfile::TempDir;

/// Faults that a test switches on and off while the daemon runs.
pub struct Faults(TempDir);

impl Faults {
    pub fn none() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Starts a daemon that is subject to these faults.
    pub fn on(&self, setup: Setup) -> Setup {
        let preload = library().to_str().unwrap();
        setup.env("LD_PRELOAD", preload).env("FOREBAY_FAULTS", self.0.path().to_str().unwrap())
    }

    /// Makes a command subject to these faults.
    pub fn preload(&self, command: &mut Command) {
        command.env("LD_PRELOAD", library()).env("FOREBAY_FAULTS", self.0.path());
    }

    pub fn begin(&self, name: &str) {
        self.set(name, "");
    }

    #[expect(clippy::disallowed_methods, reason = "the daemon must never see half of the value")]
    pub fn set(&self, name: &str, value: &str) {
        let scratch = self.0.path().join("scratch");
        std::fs::write(&scratch, value).unwrap();
        std::fs::rename(scratch, self.0.path().join(name)).unwrap();
    }

    pub fn end(&self, name: &str) {
        std::fs::remove_file(self.0.path().join(name)).unwrap();
    }

    pub fn end_all(&self) {
        for entry in std::fs::read_dir(self.0.path()).unwrap() {
            // A fault that ends by itself may do so at this moment.
            drop(std::fs::remove_file(entry.unwrap().path()));
        }
    }

    /// Whether a fault that ends by itself has not happened yet.
    pub fn is_pending(&self, name: &str) -> bool {
        self.0.path().join(name).is_file()
    }
}

/// The library, compiled once per test process.
fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/faults.c");
        let scratch = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let built = scratch.join(format!("faults-{}.so", std::process::id()));
        let mut compiler = Command::new("cc");
        compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o"]).arg(&built);
        let status =
            compiler.arg(source).arg("-ldl").status().expect("a C compiler must be installed as `cc`");
        assert!(status.success(), "faults.c compiles");
        built
    })
}
