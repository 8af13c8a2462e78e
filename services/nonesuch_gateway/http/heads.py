"""HTTP/1 whose request heads are bounded: the parser under uvicorn collects a header of any length in memory."""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from nonesuch_gateway.http.http10 import CloseDelimited

MAX_HEAD_BYTES = 65_536
"""How many bytes the first line and the headers of a request have at most; an id of a recipe takes 7 KiB."""


class BoundedHeads(HttpToolsProtocol):
    """Refuses a request whose head is larger than `MAX_HEAD_BYTES`, as soon as that is seen. No chunks for HTTP/1.0."""

    _head: int | None = None
    """Bytes that were received of a head that is not whole; None between heads."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._head is not None:
            self._head += len(data)
            if self._head > MAX_HEAD_BYTES and not self.transport.is_closing():
                self.send_400_response(f"The first line and the headers have more than {MAX_HEAD_BYTES} bytes.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head = 0

    def on_headers_complete(self) -> None:
        self._head = None
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            raise ValueError("the head is too large")  # the parser makes it an invalid request
        super().on_headers_complete()
        if self.scope["http_version"] != "1.1":
            self.cycle.send = CloseDelimited(self.cycle)  # type: ignore[assignment]  # its task has not begun
