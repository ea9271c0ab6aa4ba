//! Cleans up after a run however it ends: a small shell that waits for the end of a pipe, which the kernel closes
//! even when this program is killed. It ends the processes that live in the run's folder, removes the run's
//! namespaces, and then the folder. It touches nothing else.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

/// A process belongs to the run when its working folder is inside the run's folder.
const SCRIPT: &str = r#"
trap '' INT TERM HUP QUIT
cat >/dev/null
for process in /proc/[0-9]*; do
  case "$(readlink "$process/cwd")" in "$FOLDER"/*) kill -9 "${process#/proc/}" ;; esac
done
for name in $NAMESPACES; do ip netns del "$name"; done
while read -r _ mount _; do
  case "$mount" in "$FOLDER"/*) umount -l "$mount" ;; esac
done </proc/mounts
rm -rf "$FOLDER"
"#;

/// Cleans up when it is dropped, or when this process ends in any other way.
#[derive(Debug)]
pub struct Janitor {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Janitor {
    /// Takes charge of a folder and of namespaces that may not exist yet.
    pub fn start(folder: &Path, namespaces: &[String]) -> io::Result<Janitor> {
        let mut command = Command::new("sh");
        command.args(["-c", SCRIPT]).env("FOLDER", folder).env("NAMESPACES", namespaces.join(" "));
        // Ctrl-C goes to the group in front: not to this one.
        command.process_group(0).current_dir("/");
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut shell = command.spawn()?;
        let pipe = shell.stdin.take();
        Ok(Janitor { shell, pipe })
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.pipe.take());
        // It ends by itself; an error would mean that it has ended already.
        let _ = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processes_in_the_folder_end_and_the_folder_goes() {
        let parent = tempfile::tempdir().expect("a folder");
        let folder = parent.path().join("run");
        std::fs::create_dir_all(folder.join("b1")).expect("it can be made");
        let mut sleeper =
            Command::new("sleep").arg("600").current_dir(folder.join("b1")).spawn().expect("sleep");
        let mut other = Command::new("sleep").arg("600").current_dir(parent.path()).spawn().expect("sleep");
        drop(Janitor::start(&folder, &[]).expect("a shell"));
        assert!(!sleeper.wait().expect("it ended").success());
        assert!(!folder.exists());
        assert!(other.try_wait().expect("it can be asked").is_none(), "it is somebody else's");
        other.kill().and_then(|()| other.wait()).expect("it ends");
    }
}
