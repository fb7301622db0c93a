#!/bin/sh
# Fails if an intrinsic was left as a call: somewhere between an ISA's door and its token an `#[inline(always)]` is missing.
# The result would be right, and fifteen times slower. Usage: tools/check_codegen.sh [BINARY]
# Without symbols a call is known by what it is to: a function that stores its one vector where its caller says.
set -eu
cd "$(dirname "$0")/.."

case "$(uname -m)" in x86_64 | amd64) ;; *) echo "check_codegen: only x86-64 has intrinsics so far; skipped"; exit 0 ;; esac
command -v objdump >/dev/null || { echo "check_codegen: no objdump; skipped"; exit 0; }

# The kernels' own tests hold every kernel on every ISA, and nothing of the rivals that the benchmarks hold.
build() {
    cargo test --package ferroformer-kernels --lib --no-run --profile profiling --message-format json |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p'
}
binary=${1:-$(build)}
assembly=$(mktemp)
trap 'rm -f "$assembly"' EXIT
objdump --disassemble --demangle --no-show-raw-insn "$binary" >"$assembly"

for register in ymm zmm; do
    if ! grep -q "vfmadd.*%$register" "$assembly"; then
        echo "check_codegen: no multiply-add on $register in $binary: this is not the binary to look at"
        exit 1
    fi
done
calls=$(grep -E '(call|jmp).*<.*_mm(256|512)?_[a-z]' "$assembly" | sed 's/.*</</' | sort | uniq -c || true)
if [ -n "$calls" ]; then
    echo "check_codegen: intrinsics that were not inlined:"
    echo "$calls"
    exit 1
fi
shims=$(grep -A2 -E 'vmov[a-z0-9]+ +%[yz]mm0,\(%rdi\)$' "$assembly" | grep -B1 'ret' | grep -c 'vzeroupper' || true)
if [ "$shims" -gt 0 ]; then
    echo "check_codegen: $shims functions in $binary do nothing but return a vector: intrinsics that were not inlined"
    exit 1
fi
echo "check_codegen: no intrinsic is called in $(basename "$binary")"
