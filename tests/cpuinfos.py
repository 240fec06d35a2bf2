"""The content of /proc/cpuinfo on real boards."""

from tests.sensors.boards import SERIAL

_CORTEX_A72 = """\
BogoMIPS	: 108.00
Features	: fp asimd evtstrm crc32 cpuid
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd08
CPU revision	: 3
"""
_CORTEX_A76 = """\
BogoMIPS	: 108.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp \
asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x4
CPU part	: 0xd0b
CPU revision	: 1
"""
_CORTEX_A57 = """\
model name	: ARMv8 Processor rev 1 (v8l)
BogoMIPS	: 38.40
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x1
CPU part	: 0xd07
CPU revision	: 1
"""
_CORTEX_A78AE = """\
model name	: ARMv8 Processor rev 1 (v8l)
BogoMIPS	: 62.50
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp \
asimdhp cpuid asimdrdm lrcpc dcpop asimddp uscat \
ilrcpc flagm paca pacg
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x0
CPU part	: 0xd42
CPU revision	: 1
"""
_CORTEX_A55 = """\
BogoMIPS	: 48.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp \
asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x41
CPU architecture: 8
CPU variant	: 0x2
CPU part	: 0xd05
CPU revision	: 0
"""
_I7_8559U = """\
vendor_id	: GenuineIntel
cpu family	: 6
model		: 142
model name	: Intel(R) Core(TM) i7-8559U CPU @ 2.70GHz
stepping	: 10
microcode	: 0xf4
cpu MHz		: 2700.000
cache size	: 8192 KB
physical id	: 0
siblings	: 8
fpu		: yes
flags  : fpu vme de pse tsc msr pae mce cx8 apic sep mtrr pge mca cmov pat pse36 clflush dts \
acpi mmx fxsr sse sse2 ss ht tm pbe syscall nx pdpe1gb rdtscp lm constant_tsc pni pclmulqdq \
ssse3 sdbg fma cx16 sse4_1 sse4_2 x2apic movbe popcnt aes xsave avx f16c rdrand lahf_lm abm \
fsgsbase bmi1 avx2 smep bmi2 erms invpcid adx smap clflushopt xsaveopt xsavec xgetbv1 xsaves \
dtherm ida arat pln pts hwp md_clear flush_l1d
bugs		: spectre_v1 spectre_v2 spec_store_bypass l1tf mds swapgs srbds retbleed gds
bogomips	: 5399.81
address sizes	: 39 bits physical, 48 bits virtual
power management:
"""


def _cpuinfo(*processors: str, board: str = "") -> str:
    each = (f"processor\t: {number}\n{processor}" for number, processor in enumerate(processors))
    return "\n".join([*each, board])


def _raspberry_pi(model: str, revision: str) -> str:
    return f"Revision\t: {revision}\nSerial\t\t: {SERIAL}\nModel\t\t: {model}\n"


RASPBERRY_PI_4 = _cpuinfo(*[_CORTEX_A72] * 4, board=_raspberry_pi("Raspberry Pi 4 Model B Rev 1.4", "c03114"))
RASPBERRY_PI_5 = _cpuinfo(*[_CORTEX_A76] * 4, board=_raspberry_pi("Raspberry Pi 5 Model B Rev 1.0", "d04170"))
JETSON_NANO = _cpuinfo(*[_CORTEX_A57] * 4)
JETSON_ORIN_NANO = _cpuinfo(*[_CORTEX_A78AE] * 6)
# Little cores and big cores.
ROCK_5B = _cpuinfo(*[_CORTEX_A55] * 4, *[_CORTEX_A76] * 4)
INTEL_NUC = _cpuinfo(*[_I7_8559U] * 8)
