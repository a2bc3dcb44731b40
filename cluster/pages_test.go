package cluster

import (
	"os"
	"path/filepath"
	"testing"
)

func TestMappings(t *testing.T) {
	smaps := `00400000-0241d000 r-xp 00000000 fe:00 393474                             /usr/local/bin/a program (deleted)
Size:              32884 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
0241d000-0251d000 r--p 0201d000 fe:00 393474                             /usr/local/bin/proa
Anonymous:             4 kB
7ffd5000-7ffd6000 rw-p 00000000 00:00 0
Anonymous:            12 kB
`
	path := filepath.Join(t.TempDir(), "smaps")
	if err := os.WriteFile(path, []byte(smaps), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := mappings(path)
	if err != nil {
		t.Fatal(err)
	}
	want := []mapping{
		{0x400000, 0x241d000, "r-xp", "/usr/local/bin/a program (deleted)", false},
		{0x241d000, 0x251d000, "r--p", "/usr/local/bin/proa", true},
		{0x7ffd5000, 0x7ffd6000, "rw-p", "", true},
	}
	if len(got) != len(want) {
		t.Fatalf("got %v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
}

// The program goes on after its pages were taken out.
func TestUnmapProgram(t *testing.T) {
	for range 3 {
		if err := unmapProgram(); err != nil {
			t.Fatal(err)
		}
	}
}
