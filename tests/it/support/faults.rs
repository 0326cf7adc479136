//! Disks that fail and clocks that are set, under the real binary: a small library that is loaded into it.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::command::Ran;

const SOURCE: &str = include_str!("faults.c");

/// How a disk fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// What is written does not reach the disk.
    Sync,
    /// There is no room left.
    Full,
    /// Nothing may be changed.
    ReadOnly,
}

impl DiskFault {
    pub const ALL: [DiskFault; 3] = [DiskFault::Sync, DiskFault::Full, DiskFault::ReadOnly];
}

/// The faults of one process, or of several: whoever has this environment obeys from now on.
pub struct Faults {
    control: File,
    path: PathBuf,
    files: String,
    _directory: TempDir,
}

// Where `struct control` has its fields.
const SYNC_ERROR: u64 = 0;
const WRITE_ERROR: u64 = 8;
const WALL: u64 = 16;
// Behind it, that of the clock which counts since the machine was booted.
const STRUCK: u64 = 32;
const SIZE: u64 = 40;

impl Faults {
    /// None yet. Disks will fail for files that have `files` in their path.
    pub fn on(files: &str) -> Faults {
        let directory = tempfile::tempdir().expect("a directory can be made");
        let path = directory.path().join("control");
        let control = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
        let control = control.expect("the directory is ours");
        control.set_len(SIZE).expect("the disk has room for a few bytes");
        Faults { control, path, files: files.to_owned(), _directory: directory }
    }

    /// For clocks alone.
    pub fn of_clocks() -> Faults {
        Faults::on("/no such file")
    }

    /// What a process needs in its environment.
    pub fn environment(&self) -> [(&'static str, String); 3] {
        let text = |path: &Path| path.to_str().expect("our paths are UTF-8").to_owned();
        [
            ("LD_PRELOAD", text(library())),
            ("FAULTS_CONTROL", text(&self.path)),
            ("FAULTS_FILES", self.files.clone()),
        ]
    }

    /// From now on the disk fails so.
    pub fn break_disk(&self, fault: DiskFault) {
        // As Linux numbers them on every machine that this runs on.
        const EIO: i64 = 5;
        const ENOSPC: i64 = 28;
        const EROFS: i64 = 30;
        match fault {
            DiskFault::Sync => self.write(SYNC_ERROR, EIO),
            DiskFault::Full => self.write(WRITE_ERROR, ENOSPC),
            DiskFault::ReadOnly => self.write(WRITE_ERROR, EROFS),
        }
    }

    pub fn mend_disk(&self) {
        self.write(SYNC_ERROR, 0);
        self.write(WRITE_ERROR, 0);
    }

    /// How many calls have failed so far.
    pub fn struck(&self) -> i64 {
        let mut bytes = [0; 8];
        self.control.read_exact_at(&mut bytes, STRUCK).expect("the control file is ours");
        i64::from_ne_bytes(bytes)
    }

    /// Sets the clock on the wall so many seconds ahead of the true time.
    pub fn set_wall_clock_ahead(&self, seconds: i64) {
        self.write(WALL, seconds * 1_000_000_000);
    }

    /// The machine has been asleep for so many seconds: both clocks say so, and timers do not.
    pub fn sleep_for(&self, seconds: i64) {
        let nanos = (seconds * 1_000_000_000).to_ne_bytes();
        self.control.write_all_at(&[nanos, nanos].concat(), WALL).expect("the control file is ours");
    }

    fn write(&self, offset: u64, value: i64) {
        self.control.write_all_at(&value.to_ne_bytes(), offset).expect("the control file is ours");
    }
}

/// The library, compiled once for all tests.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Named by its content, and moved into place whole: other runs may be looking.
        let name = &super::keys::sha256_hex(SOURCE.as_bytes())[..16];
        let library = folder.join(format!("faults-{name}.so"));
        if !library.exists() {
            let fresh = folder.join(format!("faults-{name}-{}.so", std::process::id()));
            let mut compiler = Command::new("cc");
            compiler.args(["-shared", "-fPIC", "-O1", "-x", "c", "-", "-o"]).arg(&fresh);
            Ran::with_input(&mut compiler, SOURCE).assert_code(0);
            std::fs::rename(&fresh, &library).expect("the folder is ours");
        }
        library
    })
}
