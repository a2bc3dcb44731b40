package runtime

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/proa-dev/proa/internal/pidfd"
)

// A process that has the number of a runtime which ended, and calls itself what the runtime
// was called, is neither adopted nor ended.
func TestAttackPidOfAnother(t *testing.T) {
	r := &Runtime{cfg: Config{State: t.TempDir()}}
	cmd := exec.Command("/bin/sh", "-c", "read line", r.configPath())
	in, err := cmd.StdinPipe() // it reads until the test ends
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		_ = cmd.Wait() // whatever the shell makes of the end of its input
	})
	pid := cmd.Process.Pid
	began, err := pidfd.Started(pid)
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		fmt.Sprintf("%d %d\n", pid, began):   true,
		fmt.Sprintf("%d %d\n", pid, began-1): false,
		fmt.Sprintf("%d\n", pid):             false,
		fmt.Sprintf("%d 0", pid):             false,
		"1 0":                                false,
		"":                                   false,
	} {
		if err := os.WriteFile(r.pidPath(), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c, err := r.find()
		if err != nil || (c != nil) != want {
			t.Errorf("%q: found %v, %v", text, c != nil, err)
		}
		if c != nil {
			c.release()
		}
	}
	if err := os.WriteFile(r.pidPath(), fmt.Appendf(nil, "%d %d", pid, began-1), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger was ended: %v", err)
	}
}
