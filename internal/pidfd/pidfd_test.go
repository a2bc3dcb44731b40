package pidfd

import (
	"os"
	"os/exec"
	"testing"

	"golang.org/x/sys/unix"
)

// sleeper is a process that ends with the test.
func sleeper(t *testing.T) *exec.Cmd {
	t.Helper()
	cmd := exec.Command("sleep", "600")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have been ended by the test
		_ = cmd.Wait()
	})
	return cmd
}

// A number that is not of the group any more when its process is held is a stranger's.
func TestAttackNumberComesAgain(t *testing.T) {
	member, stranger := sleeper(t).Process.Pid, sleeper(t).Process.Pid
	looks := [][]int{{member, stranger}, {member}}
	held := Members(func() []int {
		now := looks[0]
		looks = looks[1:]
		return now
	})
	if len(held) != 1 || held[0].PID != member {
		t.Fatalf("held %v", held)
	}
	defer held[0].Close()
	if err := held[0].Signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(stranger, 0); err != nil {
		t.Error(err)
	}
}

// A descriptor is of the process that was opened, and its end no error.
func TestEnded(t *testing.T) {
	cmd := sleeper(t)
	p, err := Open(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // says that it was killed
	if err := p.Signal(unix.SIGTERM); err != nil {
		t.Error(err)
	}
	if held := Members(func() []int { return []int{cmd.Process.Pid} }); held != nil {
		t.Error("held what has ended")
	}
}

func TestStarted(t *testing.T) {
	at, err := Started(os.Getpid())
	if err != nil || at == 0 {
		t.Fatal(at, err)
	}
	later, err := Started(sleeper(t).Process.Pid)
	if err != nil || later < at {
		t.Errorf("%d after %d, %v", later, at, err)
	}
}

func FuzzStarted(f *testing.F) {
	f.Add([]byte("7 (a) b) (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0"))
	f.Add([]byte(")"))
	f.Fuzz(func(t *testing.T, stat []byte) {
		if at, err := started(stat); err == nil && string(stat) == "7 (a) b) (c) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 0 0" && at != 4711 {
			t.Error(at)
		}
	})
}
