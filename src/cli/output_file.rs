//! Files that the program writes: an older one is replaced only by a whole one.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    mem,
    path::{Path, PathBuf},
};

use super::failure::Failure;

/// How many names are tried for a file that is not whole yet. Names stay in use if the program is killed.
const PART_NAMES_MAX: u32 = 100;

/// A file that is being written.
///
/// It is written beside its path, as `PATH.part`, and takes its name once it is whole. If it is dropped before, it is
/// removed, and an older file is as it was. Devices, pipes and the like are written to directly.
#[derive(Debug)]
pub(crate) struct OutputFile {
    /// As the user wrote it.
    path: PathBuf,
    file: File,
    place: Place,
}

/// Where a file is written.
#[derive(Debug)]
enum Place {
    /// At `part`, to be renamed to `target`.
    Beside { part: PathBuf, target: PathBuf },
    /// At its path, because its directory takes no other file. The older content goes when the first byte is written.
    Overwrite,
    /// Into what is already there.
    Direct,
}

impl OutputFile {
    /// Finds out whether the file can be written, and begins it.
    pub(crate) fn create(path: &Path) -> Result<Self, Failure> {
        let (file, place) = open(path).map_err(|error| cannot_write(path, &error))?;
        Ok(Self { path: path.to_owned(), file, place })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        if matches!(self.place, Place::Overwrite) {
            self.file.set_len(0)?;
            self.place = Place::Direct;
        }
        self.file.write_all(bytes)
    }

    /// Shortens the file to this many bytes, if it is a file.
    pub(crate) fn truncate(&self, length: u64) {
        // What cannot be shortened is a pipe or a device, which keeps nothing anyway.
        let _ = self.file.set_len(length);
    }

    /// Writes the whole file, which then takes its name.
    pub(crate) fn finish_with(mut self, text: &str) -> Result<(), Failure> {
        self.write_all(text.as_bytes()).map_err(|error| cannot_write(&self.path, &error))?;
        self.finish()
    }

    /// The file is whole: it takes its name.
    pub(crate) fn finish(mut self) -> Result<(), Failure> {
        let Place::Beside { part, target } = mem::replace(&mut self.place, Place::Direct) else {
            return Ok(());
        };
        let named = self.file.sync_all().and_then(|()| replace(&part, &target));
        named.map_err(|error| {
            let error = format!("{error}; what was to be written is in {}", part.display());
            cannot_write(&self.path, &error)
        })
    }

    /// The file is not whole, but worth keeping: it takes its name if nothing else has it. Otherwise it stays beside,
    /// and this is where.
    pub(crate) fn keep(mut self) -> Option<PathBuf> {
        let Place::Beside { part, target } = mem::replace(&mut self.place, Place::Direct) else {
            return None;
        };
        let is_free = fs::symlink_metadata(&target).is_err();
        if is_free && fs::rename(&part, &target).is_ok() { None } else { Some(part) }
    }
}

impl Drop for OutputFile {
    fn drop(&mut self) {
        if let Place::Beside { part, .. } = &self.place {
            // Nothing more can be done about a file that stays.
            let _ = fs::remove_file(part);
        }
    }
}

/// Whether writing one of these paths would replace the other: both lead to one regular file, or will once it exists.
pub(crate) fn is_same_file(a: &Path, b: &Path) -> bool {
    let same = matches!((resolve(a), resolve(b)), (Ok(a), Ok(b)) if a == b);
    same && fs::metadata(a).map_or(true, |data| data.is_file())
}

pub(crate) fn cannot_write(path: &Path, why: &impl ToString) -> Failure {
    Failure::new(format!("cannot write {}: {}", path.display(), why.to_string()))
}

fn open(path: &Path) -> io::Result<(File, Place)> {
    if let Some(stream) = standard_stream(path) {
        return Ok((stream?, Place::Direct));
    }
    let older = fs::metadata(path).ok();
    if older.as_ref().is_some_and(|data| !data.is_file()) {
        return Ok((File::options().write(true).open(path)?, Place::Direct));
    }
    let target = resolve(path)?;
    // A file that is protected against writing is not replaced either.
    let in_place = older.as_ref().map(|_| File::options().write(true).open(&target)).transpose()?;
    let (file, part) = match (create_part(&target), in_place) {
        (Ok(created), _) => created,
        (Err(_), Some(file)) => return Ok((file, Place::Overwrite)),
        (Err(error), None) => return Err(error),
    };
    if let Some(older) = older {
        // Some file systems have no permissions.
        let _ = file.set_permissions(older.permissions());
    }
    Ok((file, Place::Beside { part, target }))
}

/// Creates the file beside `target` under a name that is free.
fn create_part(target: &Path) -> io::Result<(File, PathBuf)> {
    let mut last = io::ErrorKind::AlreadyExists.into();
    for number in 1..=PART_NAMES_MAX {
        let mut name: OsString = target.as_os_str().to_owned();
        name.push(if number == 1 { ".part".to_owned() } else { format!(".part{number}") });
        match File::create_new(&name) {
            Ok(file) => return Ok((file, name.into())),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Gives the file its name.
fn replace(part: &Path, target: &Path) -> io::Result<()> {
    match fs::rename(part, target) {
        // The target is mounted by itself, as single files are in containers.
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            fs::copy(part, target)?;
            fs::remove_file(part)
        }
        result => result,
    }
}

/// The path with all links followed. The file itself need not exist.
fn resolve(path: &Path) -> io::Result<PathBuf> {
    match fs::canonicalize(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let directory = match path.parent() {
        Some(parent) if parent != Path::new("") => parent,
        Some(_) | None => Path::new("."),
    };
    if let Ok(link) = fs::read_link(path) {
        return resolve(&directory.join(link));
    }
    let name = path.file_name().ok_or(io::ErrorKind::NotFound)?;
    Ok(fs::canonicalize(directory)?.join(name))
}

/// Stdout or stderr, if that is what the path means. Opened by its path, a file behind it would be written from its
/// beginning again.
#[cfg(unix)]
fn standard_stream(path: &Path) -> Option<io::Result<File>> {
    use std::os::fd::AsFd;

    let stream = match path.to_str()? {
        "/dev/stdout" | "/dev/fd/1" | "/proc/self/fd/1" => io::stdout().as_fd().try_clone_to_owned(),
        "/dev/stderr" | "/dev/fd/2" | "/proc/self/fd/2" => io::stderr().as_fd().try_clone_to_owned(),
        _ => return None,
    };
    Some(stream.map(File::from))
}

#[cfg(not(unix))]
fn standard_stream(_: &Path) -> Option<io::Result<File>> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with the file `old`, which holds `before`.
    fn directory() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("old");
        fs::write(&path, "before").unwrap();
        (directory, path)
    }

    fn names(directory: &tempfile::TempDir) -> Vec<String> {
        let names = fs::read_dir(directory.path()).unwrap();
        let mut names: Vec<_> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn an_older_file_is_replaced_only_by_a_whole_one() {
        let (directory, path) = directory();
        let mut file = OutputFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        drop(file);
        assert_eq!(
            (fs::read_to_string(&path).unwrap(), names(&directory)),
            ("before".into(), vec!["old".into()])
        );
        OutputFile::create(&path).unwrap().finish_with("after").unwrap();
        assert_eq!(
            (fs::read_to_string(&path).unwrap(), names(&directory)),
            ("after".into(), vec!["old".into()])
        );
    }

    #[test]
    fn what_is_kept_takes_its_name_only_if_nothing_has_it() {
        let (directory, path) = directory();
        let mut file = OutputFile::create(&path).unwrap();
        file.write_all(b"half").unwrap();
        let part = file.keep().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "before");
        assert_eq!(fs::read_to_string(part).unwrap(), "half");

        let fresh = directory.path().join("fresh");
        let mut file = OutputFile::create(&fresh).unwrap();
        file.write_all(b"half").unwrap();
        assert_eq!(file.keep(), None);
        assert_eq!(fs::read_to_string(fresh).unwrap(), "half");
        assert_eq!(names(&directory), ["fresh", "old", "old.part"]);
    }

    #[test]
    fn what_another_program_is_writing_is_left_alone() {
        let (directory, path) = directory();
        let first = OutputFile::create(&path).unwrap();
        let second = OutputFile::create(&path).unwrap();
        assert_eq!(names(&directory), ["old", "old.part", "old.part2"]);
        second.finish_with("second").unwrap();
        first.finish_with("first").unwrap();
        assert_eq!(
            (fs::read_to_string(&path).unwrap(), names(&directory)),
            ("first".into(), vec!["old".into()])
        );
    }

    #[test]
    fn paths_to_one_file_are_the_same() {
        let (directory, path) = directory();
        let other_way = directory.path().join(".").join("old");
        assert!(is_same_file(&path, &other_way));
        assert!(!is_same_file(&path, &directory.path().join("new")));
        assert!(is_same_file(&directory.path().join("new"), &directory.path().join("./new")));
        assert!(!is_same_file(&directory.path().join("no/new"), &directory.path().join("no/new")));
    }

    #[cfg(unix)]
    mod unix {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt, symlink};

        use super::*;

        #[test]
        fn links_are_followed_and_stay() {
            let (directory, path) = directory();
            for (link, target) in [("link", "old"), ("dangling", "new")] {
                let link = directory.path().join(link);
                symlink(target, &link).unwrap();
                assert!(is_same_file(&link, &directory.path().join(target)));
                OutputFile::create(&link).unwrap().finish_with("after").unwrap();
                assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
                assert_eq!(fs::read_to_string(directory.path().join(target)).unwrap(), "after");
            }
            assert!(!fs::symlink_metadata(path).unwrap().is_symlink());
        }

        #[test]
        fn permissions_are_those_of_the_older_file() {
            let (_directory, path) = directory();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
            OutputFile::create(&path).unwrap().finish_with("after").unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
        }

        #[test]
        fn devices_are_written_to_and_not_replaced() {
            let null = Path::new("/dev/null");
            assert!(!is_same_file(null, null));
            OutputFile::create(null).unwrap().finish_with("gone").unwrap();
            assert!(fs::metadata(null).unwrap().file_type().is_char_device());
            assert!(!Path::new("/dev/null.part").exists());
        }

        #[cfg(target_os = "linux")]
        #[test]
        fn a_full_device_is_an_error() {
            let failure = OutputFile::create(Path::new("/dev/full")).unwrap().finish_with("x").unwrap_err();
            assert!(failure.to_string().starts_with("cannot write /dev/full: No space left"), "{failure}");
        }
    }
}
