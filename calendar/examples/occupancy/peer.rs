//! A PostgreSQL of our own with an exclusion constraint. A loop inside the server inserts the bookings, with one
//! transaction for each turn: no round trips, no parsing, no commit for each booking.

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::BoxError;

/// A booking of one hour, or of one hour each week.
pub(crate) struct AskedBooking {
    pub(crate) id: u64,
    pub(crate) place: u64,
    /// Unix seconds.
    pub(crate) start: i64,
    pub(crate) weeks: u32,
}

pub(crate) struct PostgresPeer {
    programs: PathBuf,
    folder: PathBuf,
    user: Option<(u32, u32)>,
    server: Option<Child>,
}

const SETTINGS: &str = "listen_addresses = ''\nsynchronous_commit = off\nshared_buffers = 1GB\nmax_wal_size = 16GB\n\
     checkpoint_timeout = 30min\nautovacuum = off\njit = off\nwork_mem = 256MB\n";

impl PostgresPeer {
    pub(crate) fn start() -> Result<Self, BoxError> {
        let programs =
            programs().ok_or("no initdb found: install postgresql (Debian: apt-get install postgresql)")?;
        let folder = std::env::temp_dir().join(format!("occupancy-{}", std::process::id()));
        fs::create_dir(&folder)?;
        // PostgreSQL refuses to run as root; then it runs as its package's user, or as nobody.
        let is_root = fs::metadata(&folder)?.uid() == 0;
        let user = if is_root {
            Some(ids("postgres").or_else(|| ids("nobody")).ok_or("no user to run as")?)
        } else {
            None
        };
        if let Some((uid, gid)) = user {
            chown(&folder, Some(uid), Some(gid))?;
        }
        let mut peer = Self { programs, folder, user, server: None };
        let data = peer.folder.join("data");
        let made = peer.command("initdb").args(["-U", "bench", "-A", "trust", "-D"]).arg(&data).output()?;
        if !made.status.success() {
            return Err(String::from_utf8_lossy(&made.stderr).into());
        }
        fs::OpenOptions::new()
            .append(true)
            .open(data.join("postgresql.conf"))?
            .write_all(SETTINGS.as_bytes())?;
        let log = fs::File::create(peer.folder.join("log"))?;
        let mut server = peer.command("postgres");
        server.arg("-D").arg(&data).arg("-k").arg(&peer.folder).stdout(log.try_clone()?).stderr(log);
        peer.server = Some(server.spawn()?);
        for _ in 0..100 {
            if peer.sql("select 1").is_ok() {
                return Ok(peer);
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        Err(fs::read_to_string(peer.folder.join("log"))?.into())
    }

    pub(crate) fn version(&mut self) -> Result<String, BoxError> {
        self.sql("show server_version").map(|text| format!("PostgreSQL {}", text.trim()))
    }

    /// Makes empty tables, and loads the bookings to insert.
    pub(crate) fn begin(&mut self, asked: &[AskedBooking]) -> Result<(), BoxError> {
        let mut text = "create extension if not exists btree_gist;\n\
             drop table if exists asked, booked;\n\
             create table asked (id int primary key, place int not null, start timestamptz not null, weeks int not null);\n\
             create table booked (id int not null, place int not null, during tstzrange not null, \
             exclude using gist (place with =, during with &&));\n\
             copy asked from stdin;\n"
            .to_owned();
        for AskedBooking { id, place, start, weeks } in asked {
            let start = jiff::Timestamp::from_second(*start)?;
            writeln!(text, "{id}\t{place}\t{start}\t{weeks}")?;
        }
        text.push_str("\\.\nanalyze asked;\n");
        self.sql(&text).map(drop)
    }

    /// Inserts these bookings. Returns how long it took inside the server.
    pub(crate) fn book(&mut self, part: &[AskedBooking]) -> Result<Duration, BoxError> {
        let (first, last) = part.first().zip(part.last()).ok_or("nothing to book")?;
        // A series is inserted completely or not at all.
        let insert = if first.weeks == 1 {
            "insert into booked values (it.id, it.place, tstzrange(it.start, it.start + '1 h')) on conflict do nothing;"
        } else {
            "begin insert into booked select it.id, it.place, tstzrange(at, at + '1 h') from \
             generate_series(it.start, it.start + (it.weeks - 1) * interval '7 d', '7 d') at; \
             exception when exclusion_violation then null; end;"
        };
        let text = format!(
            "set timezone = 'UTC';\nselect clock_timestamp() as began \\gset\n\
             do $$ declare it asked; begin for it in select * from asked where id between {} and {} order by id loop \
             {insert} end loop; end $$;\n\
             select extract(epoch from clock_timestamp() - :'began'::timestamptz);\n",
            first.id, last.id
        );
        Ok(Duration::from_secs_f64(self.sql(&text)?.trim().parse()?))
    }

    pub(crate) fn booked(&mut self) -> Result<Vec<u64>, BoxError> {
        let text = self.sql("select distinct id from booked order by id")?;
        Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
    }

    /// Debian has the client in PATH and the server in a directory of its own.
    fn program(&self, name: &str) -> PathBuf {
        let beside = self.programs.join(name);
        if beside.is_file() { beside } else { name.into() }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(self.program(program));
        command.current_dir(&self.folder);
        if let Some((uid, gid)) = self.user {
            command.uid(uid).gid(gid);
        }
        command
    }

    fn sql(&mut self, text: &str) -> Result<String, BoxError> {
        // Run as the current user. Starting a program as another user takes a fork, and after that each page of the
        // index faults once more when it is written. That would be measured as time of the index.
        let mut client = Command::new(self.program("psql"));
        client.args(["-X", "-q", "-A", "-t", "-v", "ON_ERROR_STOP=1", "-U", "bench", "-d", "postgres", "-h"]);
        client.arg(&self.folder).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut client = client.spawn()?;
        if let Some(mut input) = client.stdin.take() {
            input.write_all(text.as_bytes())?;
        }
        let done = client.wait_with_output()?;
        if done.status.success() {
            Ok(String::from_utf8(done.stdout)?)
        } else {
            Err(String::from_utf8_lossy(&done.stderr).into())
        }
    }
}

impl Drop for PostgresPeer {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            drop(server.kill());
            drop(server.wait());
        }
        drop(fs::remove_dir_all(&self.folder));
    }
}

/// The directory with PostgreSQL's programs.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let debian = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    std::env::split_paths(&path)
        .chain(debian.map(|version| version.path().join("bin")))
        .find(|folder| folder.join("initdb").is_file())
}

fn ids(user: &str) -> Option<(u32, u32)> {
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let mut fields = users.lines().find(|line| line.split(':').next() == Some(user))?.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
