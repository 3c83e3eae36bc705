"""Run a Python script inside a real QGIS on a virtual screen, with this checkout as its plugin.

    python3 tools/run_in_qgis.py [--zip FILE] [--profile FOLDER] SCRIPT [ARGUMENT ...]

The script runs once QGIS is up, with the plugin switched on; its exit status becomes this
program's. What QGIS itself prints goes to <profile>/qgis.log.
"""

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PLUGIN = "qgis_mmearth"

# Runs inside QGIS. Exceptions must not reach QGIS: it would show a window that nobody closes.
BOOT = """
import os, runpy, sys, traceback
from qgis.PyQt.QtCore import QTimer
sys.argv = {argv!r}
out = os.fdopen({fd}, "w", buffering=1, closefd=False)
def boot():
    status = 1
    sys.stdout = sys.stderr = out
    try:
        import qgis.utils
        def show(kind, error, trace, *args, **options):
            traceback.print_exception(kind, error, trace)
        qgis.utils.showException = show
        qgis.utils.updateAvailablePlugins()
        if {archive!r}:
            import pyplugin_installer
            pyplugin_installer.instance().installFromZipFile({archive!r})
            if {plugin!r} not in qgis.utils.active_plugins:
                raise SystemExit("The plugin could not be installed.")
        elif not (qgis.utils.loadPlugin({plugin!r}) and qgis.utils.startPlugin({plugin!r})):
            raise SystemExit("The plugin could not be started.")
        runpy.run_path({script!r}, run_name="__main__")
        status = 0
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if isinstance(end.code, str):
            print(end.code)
    except BaseException:
        traceback.print_exc()
    try:
        if {plugin!r} in qgis.utils.plugins:
            qgis.utils.unloadPlugin({plugin!r})
    finally:
        out.flush()
        os._exit(status)
QTimer.singleShot(500, boot)
"""


def main() -> int:
    """Run the script; return its exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--zip", type=Path, help="install the plugin from this, as the plugin manager does"
    )
    parser.add_argument(
        "--profile", type=Path, help="folder of QGIS profiles; default: a fresh one"
    )
    parser.add_argument("--timeout", type=float, default=1200, help="seconds")
    parser.add_argument("script", type=Path)
    parser.add_argument("arguments", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="qgis-") as scratch:
        profile = options.profile or Path(scratch) / "profiles"
        profile.mkdir(parents=True, exist_ok=True)
        return _run(options, profile.resolve(), Path(scratch))


def _linked(folder: Path) -> Path:
    """Return a folder in which this checkout stands under the plugin's name."""
    folder.mkdir()
    (folder / PLUGIN).symlink_to(ROOT)
    return folder


def _run(options: argparse.Namespace, profile: Path, scratch: Path) -> int:
    missing = [name for name in ("qgis", "xvfb-run") if not shutil.which(name)]
    if missing:
        print(f"{' and '.join(missing)} not found; run: make setup", file=sys.stderr)
        return 2
    script = options.script.resolve()
    boot = scratch / "boot.py"
    # Standard output under a number of its own; xvfb-run has a use for the lowest ones.
    fd = fcntl.fcntl(1, fcntl.F_DUPFD, 50)
    boot.write_text(
        BOOT.format(
            argv=[str(script), *options.arguments],
            fd=fd,
            plugin=PLUGIN,
            script=str(script),
            archive=str(options.zip.resolve()) if options.zip else "",
        )
    )
    command = [
        "xvfb-run", "--auto-servernum", "--server-args=-screen 0 1600x1000x24",
        "qgis", "--noversioncheck", "--nologo", "--profiles-path", str(profile), "--code",
        str(boot),
    ]  # fmt: skip
    environment = {
        **os.environ,
        # QGIS takes its Python from the first python3 on the path; that must be the system's.
        "PATH": f"/usr/bin:{os.environ['PATH']}",
        "PYTHONPATH": "",
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C.UTF-8",
    }
    if not options.zip:
        environment["QGIS_PLUGINPATH"] = str(_linked(scratch / "plugins"))
    with (profile / "qgis.log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, pass_fds=[fd], start_new_session=True
        )
        try:
            return process.wait(options.timeout)
        except subprocess.TimeoutExpired:
            print(f"QGIS did not finish within {options.timeout:g} s; see {profile}/qgis.log",
                  file=sys.stderr)  # fmt: skip
            return 124
        finally:
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass


if __name__ == "__main__":
    sys.exit(main())
