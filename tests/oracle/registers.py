"""The numbers of registers in an encoding (SDM volume 2, tables 2-2 and 3-1)."""

RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI = range(8)
ES, CS, SS, DS, FS, GS = range(6)
