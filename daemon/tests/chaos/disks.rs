//! A small file system for each member, mounted from an image: it can lose its power and be full.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::common::machine::{run, succeeds};

/// Large enough for XFS, which refuses less; images are sparse.
const MIB: u64 = 320;

/// Which file system it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
}

/// A mounted image; unmounted when dropped.
pub(crate) struct Disk {
    image: PathBuf,
    mount: PathBuf,
}

/// Makes file systems forget what was not synced, one right after the other: `FS_IOC_GOINGDOWN` without a flush.
const POWER_LOSS: &str = r#"for (@ARGV) { open my $dir, "<", $_ or die "$_: $!"; push @dirs, $dir }
for (@dirs) { my $flag = pack("L", 2); ioctl($_, 0x8004587d, $flag) or die "ioctl: $!" }"#;

impl Disk {
    pub(crate) fn make(dir: &Path, number: usize, kind: Kind) -> Result<Disk, String> {
        let image = dir.join(format!("disk-{}.img", number + 1));
        let mount = dir.join(format!("disk-{}", number + 1));
        fs::create_dir(&mount).map_err(|error| error.to_string())?;
        let file = File::create(&image).map_err(|error| error.to_string())?;
        file.set_len(MIB << 20).map_err(|error| error.to_string())?;
        let made = match kind {
            Kind::Ext4 => succeeds("mkfs.ext4", &["-q", "-F", &text(&image)]),
            Kind::Xfs => succeeds("mkfs.xfs", &["-q", "-f", &text(&image)]),
        };
        if !made {
            return Err(format!("{kind:?} cannot be made"));
        }
        if !succeeds("mount", &["-o", "loop", &text(&image), &text(&mount)]) {
            return Err(format!("{kind:?} cannot be mounted"));
        }
        Ok(Disk { image, mount })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.mount
    }

    /// Mounts it again after its power was lost, which replays its journal.
    pub(crate) fn mount_again(&self) {
        run("umount", &[&text(&self.mount)]);
        self.mount();
    }

    /// Keeps what is on it while nobody uses it.
    pub(crate) fn keep(&self) {
        run("umount", &[&text(&self.mount)]);
        run("cp", &["--sparse=always", &text(&self.image), &self.kept()]);
        self.mount();
    }

    /// Puts back what was kept.
    pub(crate) fn put_back(&self) {
        run("umount", &[&text(&self.mount)]);
        run("cp", &["--sparse=always", &self.kept(), &text(&self.image)]);
        self.mount();
    }

    fn kept(&self) -> String {
        text(&self.image.with_extension("kept"))
    }

    fn mount(&self) {
        run(
            "mount",
            &["-o", "loop", &text(&self.image), &text(&self.mount)],
        );
    }

    /// Takes all the space that is left.
    pub(crate) fn fill(&self) {
        let filler = text(&self.mount.join("filler"));
        // First in great pieces, then to the last block; both end with an error, which is the aim.
        succeeds("dd", &["if=/dev/zero", &format!("of={filler}"), "bs=1M"]);
        succeeds(
            "dd",
            &["if=/dev/zero", &format!("of={filler}.rest"), "bs=512"],
        );
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> u64 {
        let list = run("df", &["--output=avail", "-B1", &text(&self.mount)]);
        let last = list.lines().last().unwrap_or_default().trim();
        last.parse().unwrap_or_default()
    }

    /// Gives the space back.
    pub(crate) fn empty(&self) {
        for name in ["filler", "filler.rest"] {
            let _ = fs::remove_file(self.mount.join(name));
        }
    }
}

/// Takes the power from some of them at once.
pub(crate) fn lose_power(disks: &[&Disk]) {
    let mut arguments = vec!["-e".to_owned(), POWER_LOSS.to_owned()];
    arguments.extend(disks.iter().map(|disk| text(&disk.mount)));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    run("perl", &arguments);
}

impl Drop for Disk {
    fn drop(&mut self) {
        succeeds("umount", &["-l", &text(&self.mount)]);
        let _ = fs::remove_file(&self.image);
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
