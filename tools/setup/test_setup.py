"""The choice of wheels, for each platform: `python -m unittest discover tools/setup`."""

import unittest

import setup_libtorch
import setup_mujoco
from wheels import PLATFORMS, this_platform


class Wheels(unittest.TestCase):
    def test_every_platform_has_wheels_of_its_own(self):
        words = {"x86_64": "x86_64", "aarch64": "aarch64", "arm64": "arm64"}
        for wheels in (setup_libtorch.WHEELS, setup_mujoco.WHEELS):
            self.assertEqual(list(wheels), PLATFORMS)
            for (system, machine), files in wheels.items():
                for name, (requirement, sha256) in files.items():
                    self.assertIn(words[machine], name)
                    self.assertEqual("macosx" in name, system == "Darwin")
                    package, version = requirement.split("==")
                    self.assertTrue(name.startswith(f"{package.replace('-', '_')}-{version}-"), name)
                    self.assertEqual(len(sha256), 64)

    def test_every_platform_s_libraries_have_its_suffix(self):
        self.assertEqual(list(setup_libtorch.LIBRARIES), PLATFORMS)
        for (system, _), libraries in setup_libtorch.LIBRARIES.items():
            for library in libraries:
                self.assertIn(".dylib" if system == "Darwin" else ".so", library)

    def test_another_platform_is_refused_in_one_sentence(self):
        for system, machine in PLATFORMS:
            self.assertEqual(this_platform("", system, machine), (system, machine))
        with self.assertRaises(SystemExit) as refused:
            this_platform("build it yourself", "Linux", "riscv64")
        self.assertEqual(
            str(refused.exception),
            "setup: this machine is Linux riscv64; wheels are pinned for Linux x86_64, Linux aarch64, Darwin arm64; "
            "build it yourself.",
        )


if __name__ == "__main__":
    unittest.main()
