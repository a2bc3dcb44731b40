package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func open(t *testing.T, path string) *Journal {
	t.Helper()
	j, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := j.Close(); err != nil {
			t.Log(err)
		}
	})
	return j
}

func TestJournalKeepsWhatWasRecorded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "journal")
	j := open(t, path)
	want := []Change{
		{Kind: Path, Name: "/tmp/proa-test/a"},
		{Kind: Sysctl, Name: "net.ipv4.ip_forward", Before: "0"},
		{Kind: Link, Name: "proa*"},
	}
	for range 2 {
		for _, c := range want {
			if err := j.Record(c); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := j.Record(Change{Kind: Sysctl, Name: "net.ipv4.ip_forward", Before: "1"}); err != nil {
		t.Fatal(err)
	}
	if got := open(t, path).Changes(); !slices.Equal(got, want) {
		t.Errorf("reopened: %v", got)
	}
}

func TestJournalToleratesTornTail(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal")
	good := `{"kind":"link","name":"a"}` + "\n"
	if err := os.WriteFile(path, []byte(good+"garbage\n"+`{"kind":"link","na`), 0o600); err != nil {
		t.Fatal(err)
	}
	j := open(t, path)
	if err := j.Record(Change{Kind: Link, Name: "b"}); err != nil {
		t.Fatal(err)
	}
	j = open(t, path)
	if got := j.Changes(); len(got) != 2 || got[0].Name != "a" || got[1].Name != "b" || j.damaged != 1 {
		t.Errorf("changes %v, damaged %d", got, j.damaged)
	}
}

func TestRecordRefusesWhatReachesTooFar(t *testing.T) {
	j := open(t, filepath.Join(t.TempDir(), "journal"))
	for _, c := range []Change{
		{Kind: Path, Name: "/"}, {Kind: Path, Name: "/var"}, {Kind: Path, Name: "var/lib/x"}, {Kind: Path, Name: "/var/lib/../.."},
		{Kind: Path, Name: ""}, {Kind: Path, Name: "/var/lib/a\n{}"}, {Kind: Mounts, Name: "/run"}, {Kind: Cgroup, Name: "/"}, {Kind: Cgroup, Name: "proa"},
		{Kind: Process, Name: "/usr"}, {Kind: Link, Name: "*"}, {Kind: Sysctl, Name: "../../etc/passwd"}, {Kind: "other", Name: "x"},
	} {
		if err := j.Record(c); err == nil {
			t.Errorf("%s %q was recorded", c.Kind, c.Name)
		}
	}
}

func TestUndoScopes(t *testing.T) {
	dir := t.TempDir()
	j := open(t, filepath.Join(dir, "journal"))
	kept, volatile := filepath.Join(dir, "kept"), filepath.Join(dir, "volatile")
	for _, c := range []Change{{Kind: Path, Name: kept}, {Kind: Path, Name: volatile, Volatile: true}, {Kind: Path, Name: filepath.Join(dir, "never-made")}} {
		if err := j.Record(c); err != nil {
			t.Fatal(err)
		}
	}
	for _, d := range []string{kept, volatile} {
		if err := os.MkdirAll(filepath.Join(d, "deep", "er"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	var said []string
	report := func(s string) { said = append(said, s) }
	if err := j.Undo(t.Context(), ScopeDown, report); err != nil {
		t.Fatal(err)
	}
	if !isDir(kept) || isDir(volatile) || len(j.Changes()) != 2 {
		t.Errorf("after down: kept %v, volatile %v, %v", isDir(kept), isDir(volatile), j.Changes())
	}
	for range 2 {
		if err := j.Undo(t.Context(), ScopeUninstall, report); err != nil {
			t.Fatal(err)
		}
	}
	if isDir(kept) || len(said) != 2 {
		t.Errorf("after uninstall: kept %v, said %q", isDir(kept), said)
	}
	if _, err := os.Lstat(j.path); !os.IsNotExist(err) {
		t.Errorf("journal remains: %v", err)
	}
}

func TestParseMounts(t *testing.T) {
	text := `36 35 98:0 /a /mnt/with\040blank rw,noatime master:1 shared:2 - ext4 /dev/root rw,errors=continue
37 35 0:1 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu
torn line
`
	got := parseMounts(text)
	if len(got) != 2 || got[0].point != "/mnt/with blank" || got[0].fstype != "ext4" || got[1].options != "rw,cpu" {
		t.Errorf("%+v", got)
	}
}

func TestJudgeRunc(t *testing.T) {
	for text, want := range map[string]Severity{
		"runc version 1.1.5+ds1\ncommit: x": "", "runc version 1.1.5": Warning, "runc version 1.3.0-rc.1": "",
		"runc version 1.1.4": Fatal, "runc version 1.0.0-rc93": Fatal, "": Warning, "runc version 2": "",
	} {
		f := judgeRunc(text)
		if (f == nil) != (want == "") || (f != nil && f.Severity != want) {
			t.Errorf("%q: %+v, want %q", text, f, want)
		}
	}
}

func FuzzJournal(f *testing.F) {
	f.Add([]byte(`{"kind":"path","name":"/a/b/c","volatile":true}` + "\n"))
	f.Add([]byte("{}\n\n\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		changes, _ := parse(data)
		for _, c := range changes {
			if err := check(c); err != nil {
				t.Errorf("parsed a change that may not be: %v", err)
			}
			if c.Kind == Path && strings.Count(c.Name, "/") < 2 {
				t.Errorf("path %q", c.Name)
			}
		}
	})
}

func FuzzMounts(f *testing.F) {
	f.Add(`36 35 98:0 / /mnt\134 rw - ext4 /dev/root rw`)
	f.Fuzz(func(t *testing.T, text string) { parseMounts(text) })
}
