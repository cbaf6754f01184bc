//! What kind of file system a place is on, as far as it matters to an output.

use std::fs;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use rustix::fs::{StatFs, fstatfs, statfs};

use super::folder;
use super::names::path;
use crate::error::{Error, ErrorKind, Result};
use crate::location::Location;
use crate::token::token;

/// Object stores mounted as file systems: they write a file from front to back, copy it to rename it, and have no
/// create-if-absent, so an output cannot grow there part by part.
const OBJECT_STORES: [&str; 13] = [
    "gcsfuse",
    "mountpoint-s3",
    "mount-s3",
    "goofys",
    "geesefs",
    "s3fs",
    "blobfuse",
    "blobfuse2",
    "rclone",
    "ossfs",
    "ossfs2",
    "obsfs",
    "cosfs",
];

/// The `statfs` type of NFS.
const NFS: u32 = 0x6969;

/// File systems that several machines may have mounted, by `statfs` type: NFS, SMB (three), 9P, FUSE (JuiceFS, SSHFS,
/// GlusterFS, virtiofs), Ceph, Lustre, GPFS, BeeGFS, AFS (two), OCFS2, GFS2, OrangeFS.
const SHARED: [u32; 15] = [
    NFS,
    0x517B,
    0xFE53_4D42,
    0xFF53_4D42,
    0x0102_1997,
    0x6573_5546,
    0x00C3_6400,
    0x0BD0_0BD0,
    0x4750_4653,
    0x1983_0326,
    0x5346_414F,
    0x6B41_4653,
    0x7461_636F,
    0x0116_1970,
    0x2003_0528,
];

/// Refuses an output that cannot be a folder, and one on an object store that is mounted as a file system.
pub(super) fn check_output(dir: &Location) -> Result<()> {
    let place = path(dir)?;
    if let (Ok(target), Err(_)) = (fs::read_link(place), fs::metadata(place)) {
        let message = format!("is a link to {}, which is not there", target.display());
        return Err(Error::new(ErrorKind::Unsupported, dir, message).with_hint("make that folder, or remove the link"));
    }
    if fs::metadata(place).is_ok_and(|meta| !meta.is_dir()) {
        return Err(Error::new(ErrorKind::Unsupported, dir, "is a file, not a folder").with_hint("name a folder"));
    }
    let nearest = folder::nearest_existing(path(dir)?);
    let real = fs::canonicalize(nearest).map_err(|e| Error::io(dir, "cannot resolve", e))?;
    let mounts = table();
    let Some(mount) = mount_of(&mounts, &real) else { return Ok(()) };
    match object_store(mount) {
        None => Ok(()),
        Some(name) => Err(Error::new(
            ErrorKind::Unsupported,
            dir,
            format!(
                "an object store mounted by {name} at {} cannot hold an output; use the URL",
                mount.point.display()
            ),
        )),
    }
}

/// The boot of this machine, where parts are lost with it; `None` where each part is synced before it counts.
pub(super) fn boot_id(at: &Location) -> Result<Option<String>> {
    let place =
        statfs(folder::nearest_existing(path(at)?)).map_err(|e| Error::io(at, "cannot look up its file system", e))?;
    if is_shared_type(&place) {
        return Ok(None);
    }
    Ok(Some(boot_in(Path::new("/proc/sys/kernel/random/boot_id"))))
}

/// What stands for the boot where nothing tells it, as in a sandbox without `/proc`: another one in each process, so that the
/// next one checks what this one wrote.
static UNKNOWN: LazyLock<String> = LazyLock::new(|| format!("unknown-{}", token()));

/// The boot that a file of the kernel names.
fn boot_in(file: &Path) -> String {
    fs::read_to_string(file).map_or_else(|_| UNKNOWN.clone(), |id| id.trim().to_owned())
}

/// Whether an open file is on NFS.
pub(super) fn is_nfs(file: impl AsFd) -> bool {
    fstatfs(file).is_ok_and(|place| type_of(&place) == NFS)
}

/// Whether a folder is on a server that copies between two of its files by itself: NFS 4.2. The folder need not exist.
pub(super) fn copies_on_server(dir: &Path) -> bool {
    let nearest = folder::nearest_existing(dir);
    statfs(nearest).is_ok_and(|place| type_of(&place) == NFS)
        && fs::canonicalize(nearest).is_ok_and(|real| mount_of(&table(), &real).is_some_and(is_nfs_4_2))
}

fn is_nfs_4_2(mount: &Mount) -> bool {
    mount.kind == "nfs4" && mount.options.split(',').any(|option| option == "vers=4.2")
}

/// Whether other machines may have mounted the file system that holds an open file.
pub(super) fn is_shared(file: impl AsFd) -> bool {
    // What cannot be looked up is taken for shared: that costs a sync, the other mistake costs data.
    fstatfs(file).map_or(true, |place| is_shared_type(&place))
}

fn is_shared_type(place: &StatFs) -> bool {
    SHARED.contains(&type_of(place))
}

/// The type is 32 bits wide, sign-extended on some machines.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "only the low 32 bits count")]
fn type_of(place: &StatFs) -> u32 {
    place.f_type as u32
}

/// One mount of this process's view.
#[derive(Debug)]
pub(super) struct Mount {
    /// Where it shows.
    pub(super) point: PathBuf,
    /// The device of its file system, as major and minor number.
    pub(super) device: String,
    /// The folder of that file system which shows at the point: `/`, or another one for a bind mount.
    pub(super) root: PathBuf,
    pub(super) kind: String,
    pub(super) source: String,
    /// What the file system was mounted with.
    pub(super) options: String,
}

/// The mounts of this process's view; none where `/proc` is not mounted.
pub(super) fn table() -> Vec<Mount> {
    fs::read("/proc/self/mountinfo").map(|table| parse(&table)).unwrap_or_default()
}

/// Reads `/proc/self/mountinfo`; lines that do not have its form are left out.
fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(mount).collect()
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw`: device, root and mount point are the third to the
/// fifth field, and behind the lone hyphen stand type, source and
/// the options of the file system.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let device = String::from_utf8_lossy(fields.nth(2)?).into_owned();
    let root = std::ffi::OsString::from_vec(unescape(fields.next()?)).into();
    let point = std::ffi::OsString::from_vec(unescape(fields.next()?)).into();
    fields.find(|field| *field == b"-")?;
    let kind = String::from_utf8_lossy(fields.next()?).into_owned();
    let source = String::from_utf8_lossy(fields.next()?).into_owned();
    let options = String::from_utf8_lossy(fields.next().unwrap_or_default()).into_owned();
    Some(Mount { point, device, root, kind, source, options })
}

/// Undoes the octal escapes of blanks, line ends and backslashes.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut at = 0;
    while at < field.len() {
        let code = (field[at] == b'\\')
            .then(|| field.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(code.unwrap_or(field[at]));
        at += if code.is_some() { 4 } else { 1 };
    }
    plain
}

/// The mount that shows at a path: the deepest one above it, and of several at one point the last.
pub(super) fn mount_of<'a>(mounts: &'a [Mount], path: &Path) -> Option<&'a Mount> {
    mounts.iter().filter(|mount| path.starts_with(&mount.point)).max_by_key(|mount| mount.point.components().count())
}

/// The name of the program that mounts an object store. Some give it as the subtype (`fuse.gcsfuse`), others with plain
/// `fuse` and their name as the source.
fn object_store(mount: &Mount) -> Option<&'static str> {
    let subtype = mount.kind.strip_prefix("fuse.");
    let source = (mount.kind == "fuse").then_some(mount.source.as_str());
    OBJECT_STORES.into_iter().find(|name| subtype == Some(*name) || source == Some(*name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_that_nothing_tells_is_that_of_the_process() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("boot_id");
        let unknown = boot_in(&file);
        assert!(unknown.starts_with("unknown-") && boot_in(&file) == unknown, "{unknown}");
        fs::write(&file, "1b4e28ba\n").unwrap();
        assert_eq!(boot_in(&file), "1b4e28ba");
    }

    const TABLE: &[u8] = b"\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:44 / /mnt/my\\040bucket rw,nosuid - fuse.gcsfuse bucket rw,user_id=0
31 22 0:45 / /mnt/s3 rw,nosuid,nodev - fuse mountpoint-s3 rw
32 31 0:46 / /mnt/s3/scratch rw - tmpfs tmpfs rw
33 22 0:47 / /mnt/juice rw shared:5 master:2 - fuse.juicefs JuiceFS:models rw
34 22 0:48 / /over rw - fuse.s3fs s3fs rw
35 34 0:49 / /over rw - xfs /dev/vdb rw
garbage
";

    #[test]
    fn object_stores_are_known_by_name() {
        let mounts = parse(TABLE);
        let name = |path: &str| mount_of(&mounts, Path::new(path)).and_then(object_store);
        assert_eq!(name("/mnt/my bucket/out"), Some("gcsfuse"));
        assert_eq!(name("/mnt/s3/out"), Some("mountpoint-s3"));
        assert_eq!(name("/mnt/s3/scratch/out"), None, "a disk mounted within");
        assert_eq!(name("/mnt/s3-notes"), None, "the root's file system");
        assert_eq!(name("/mnt/juice/out"), None, "POSIX although its bytes are objects");
        assert_eq!(name("/over"), None, "mounted over");
        assert_eq!(mounts.len(), 7);
        assert_eq!((mounts[1].device.as_str(), mounts[1].root.as_path()), ("0:44", Path::new("/")));
    }

    #[test]
    fn a_server_that_copies_is_known_by_its_version() {
        let line = |kind: &str, version: &str| {
            let line = format!("40 22 0:50 / /n rw - {kind} server:/x rw,vers={version},rsize=1048576,namlen=255");
            is_nfs_4_2(&mount(line.as_bytes()).unwrap())
        };
        assert!(line("nfs4", "4.2"));
        assert!(!line("nfs4", "4.1") && !line("nfs", "3") && !line("fuse.nfs", "4.2"));
    }

    #[test]
    fn an_ordinary_folder_is_fine_before_it_exists() {
        let dir = tempfile::tempdir().unwrap();
        let out = Location::at_path(&dir.path().join("a/b")).unwrap();
        check_output(&out).unwrap();
        assert!(boot_id(&out).unwrap().is_none_or(|id| id.len() == 36));
    }
}
