"""A file is compiled once for a processor and a version; where that fails, layers go on without it and it is said."""

from __future__ import annotations

import logging
import os
import shutil
import stat

import pytest
import torch

from efficientconv.layers import BDRConv2d
from efficientconv.native import compiler, library
from efficientconv.native.library import library as cached_library

pytestmark = pytest.mark.skipif(compiler.compiler() is None, reason="there is no C++ compiler")


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Compile into a folder of this test's, and forget afterwards what was found."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("EFFICIENTCONV_NATIVE", raising=False)
    for function in (cached_library, compiler.compiler, compiler.version):
        function.cache_clear()
    yield tmp_path / "efficientconv"
    for function in (cached_library, compiler.compiler, compiler.version):
        function.cache_clear()


def fake_compiler(folder, script: str) -> str:
    program = folder / "fake"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return str(program)


def test_compiles_once(own_cache):
    path = compiler.compiled("bdrconv")
    written = path.stat().st_mtime_ns
    assert path.parent == own_cache
    assert compiler.compiled("bdrconv") == path
    assert path.stat().st_mtime_ns == written
    assert [file.name for file in own_cache.iterdir()] == [path.name]


def test_other_sources_and_other_processors_are_compiled_anew(own_cache, monkeypatch, tmp_path):
    shutil.copytree(compiler.SOURCES, tmp_path / "sources")
    before = compiler._digest("bdrconv", compiler.compiler())
    monkeypatch.setattr(compiler, "SOURCES", tmp_path / "sources")
    assert compiler._digest("bdrconv", compiler.compiler()) == before
    with (tmp_path / "sources" / "pixels.h").open("a") as file:
        file.write("// changed\n")
    changed = compiler._digest("bdrconv", compiler.compiler())
    monkeypatch.setattr(compiler, "_instructions", lambda: "flags: sse2")
    assert len({before, changed, compiler._digest("bdrconv", compiler.compiler())}) == 3


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ('[ "$1" = --version ] && exit 0\necho "error: no such processor" >&2; exit 1', "error: no such processor"),
        ('[ "$1" = --version ] && exit 0\nfor out; do :; done; echo broken > "$out"; exit 1', "non-zero exit status 1"),
        ("exit 1", "non-zero exit status 1"),
    ],
)
def test_a_compiler_that_fails_leaves_the_layer_as_it_is_drawn(
    own_cache, monkeypatch, tmp_path, caplog, script, reason
):
    monkeypatch.setenv("CXX", fake_compiler(tmp_path, script))
    caplog.set_level(logging.INFO, logger="efficientconv")
    layer = BDRConv2d(16, 16, 3, padding=1)
    x = torch.randn(2, 16, 4, 4).contiguous(memory_format=torch.channels_last)
    assert layer(x).isfinite().all()
    assert layer(x).shape == x.shape
    assert library("bdrconv") is None
    record = caplog.records[-1]
    assert sum("operator by operator" in other.getMessage() for other in caplog.records) == 1
    assert record.getMessage().startswith("bdrconv runs operator by operator, which is slower: ")
    assert reason in record.getMessage()
    assert not own_cache.exists() or not list(own_cache.iterdir())


def test_no_compiler(own_cache, monkeypatch, caplog):
    monkeypatch.setenv("CXX", "there-is-none")
    caplog.set_level(logging.INFO, logger="efficientconv")
    assert library("bdrconv") is None
    assert "no C++ compiler" in caplog.text


def test_a_cache_that_cannot_be_written(own_cache, caplog):
    own_cache.write_text("a file in the way")
    caplog.set_level(logging.INFO, logger="efficientconv")
    assert library("bdrconv") is None
    assert str(own_cache) in caplog.text


def test_can_be_switched_off(own_cache, monkeypatch):
    monkeypatch.setenv("EFFICIENTCONV_NATIVE", "0")
    assert library("bdrconv") is None
    assert not own_cache.exists()


def test_a_home_shared_by_users_without_one(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", os.sep + "nowhere")
    assert compiler.cache() == compiler.Path("/nowhere/.cache/efficientconv")
