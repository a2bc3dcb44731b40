package memory

import (
	"os"
	"strings"
	"testing"
)

// smaps has, one after another, code, constants that were written to before they were
// protected, data, the heap, and another file.
const smaps = `00400000-0305d000 r-xp 00000000 fe:00 9994449                            /opt/my prog
Size:              45428 kB
Rss:               40000 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
0305d000-069a5000 r--p 02c5d000 fe:00 9994449                            /opt/my prog
Rss:               50000 kB
Anonymous:             4 kB
069a5000-06b12000 rw-p 065a5000 fe:00 9994449                            /opt/my prog
Rss:                1000 kB
Anonymous:             0 kB
06b12000-06b13000 rw-p 00000000 00:00 0
Rss:                   4 kB
Anonymous:             4 kB
7f0000000000-7f0000001000 r--p 00000000 fe:00 12                         /lib/my prog/other
Rss:                   4 kB
Anonymous:             0 kB
`

func TestProgramMappings(t *testing.T) {
	got, err := programMappings(strings.NewReader(smaps), "/opt/my prog")
	if err != nil {
		t.Fatal(err)
	}
	want := mapping{start: 0x400000, end: 0x305d000, resident: 40000 << 10}
	if len(got) != 1 || got[0] != want {
		t.Fatalf("mappings = %+v, want %+v alone", got, want)
	}
}

func TestForgetProgram(t *testing.T) {
	bytes, err := ForgetProgram()
	if err != nil {
		t.Fatal(err)
	}
	if bytes < 1<<20 {
		t.Errorf("gave back %d bytes, want most of what a test program has mapped", bytes)
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		t.Fatal(err)
	}
	defer smaps.Close()
	path, err := os.Readlink("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	left, err := programMappings(smaps, path)
	if err != nil {
		t.Fatal(err)
	}
	var resident int64
	for _, m := range left {
		resident += m.resident
	}
	if resident >= bytes {
		t.Errorf("%d bytes are mapped after %d were given back", resident, bytes)
	}
}
