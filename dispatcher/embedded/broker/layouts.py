"""How numbers lie on the wire: in network order, of the widths that AMQP knows. Nothing else is decided here."""

from __future__ import annotations

import struct

U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
I16 = struct.Struct(">h")
I32 = struct.Struct(">i")
I64 = struct.Struct(">q")
F32 = struct.Struct(">f")
F64 = struct.Struct(">d")
