package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/proa-dev/proa/internal/pidfd"
)

// child is the runtime's process, ours or one that an earlier proa started, held by a
// pidfd so that its number cannot come to mean another process.
type child struct {
	pid   int
	fd    *os.File    // pidfd, non-blocking: readable when the process has ended
	owned *os.Process // nil when adopted
}

func (r *Runtime) configPath() string { return filepath.Join(r.cfg.State, "config.toml") }
func (r *Runtime) pidPath() string    { return filepath.Join(r.cfg.State, "containerd.pid") }
func (r *Runtime) logPath() string    { return filepath.Join(r.cfg.Root, "containerd.log") }

// maxLog is the size at which a runtime's log is begun anew at its next start.
const maxLog = 8 << 20

// adopt returns the runtime that runs already, when it is the same program with the same
// configuration. One that differs is ended; then, and when there is none, it returns nil.
func (r *Runtime) adopt(ctx context.Context) (*child, error) {
	c, err := r.find()
	if err != nil || c == nil {
		return nil, err
	}
	config, err := os.ReadFile(r.configPath())
	if err == nil && string(config) == r.config {
		r.cfg.Log.Info("adopting the running container runtime", "pid", c.pid)
		return c, nil
	}
	r.cfg.Log.Info("restarting the container runtime: program or configuration changed", "pid", c.pid)
	defer c.release()
	return nil, c.end(ctx)
}

// find returns the running runtime of this node, or nil.
func (r *Runtime) find() (*child, error) {
	text, err := os.ReadFile(r.pidPath())
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("find running runtime: %w", err)
	}
	number, start, _ := strings.Cut(strings.TrimSpace(string(text)), " ")
	pid, err := strconv.Atoi(number)
	if err != nil || pid <= 1 {
		return nil, nil // torn file: nothing to adopt
	}
	c, err := open(pid)
	if err != nil {
		return nil, nil // it ended
	}
	if !r.is(pid, start) {
		c.release()
		return nil, nil // the number is another process's now
	}
	return c, nil
}

// is tells whether the process, which is held, is the runtime that was started then: what a
// process says of itself in its arguments is not enough, any may say that.
func (r *Runtime) is(pid int, start string) bool {
	if at, err := pidfd.Started(pid); err != nil || strconv.FormatUint(at, 10) != start {
		return false
	}
	args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && bytes.Contains(args, []byte(r.configPath()))
}

// note writes down which process the runtime is: its number, and when it began.
func (r *Runtime) note(pid int) error {
	at, err := pidfd.Started(pid)
	if err != nil {
		return err
	}
	return os.WriteFile(r.pidPath(), fmt.Appendf(nil, "%d %d\n", pid, at), 0o600)
}

// start writes the configuration and starts the runtime in a session of its own, its
// output going to a file, so that nothing ties its life to ours.
func (r *Runtime) start() (*child, error) {
	if err := os.WriteFile(r.configPath(), []byte(r.config), 0o600); err != nil {
		return nil, fmt.Errorf("write runtime configuration: %w", err)
	}
	flags := os.O_CREATE | os.O_WRONLY | os.O_APPEND
	if info, err := os.Stat(r.logPath()); err == nil && info.Size() > maxLog {
		flags |= os.O_TRUNC
	}
	log, err := os.OpenFile(r.logPath(), flags, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open runtime log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(r.cfg.Self[0], append(r.cfg.Self[1:], "--config", r.configPath())...)
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = log, log
	// After a restart containerd looks for the shim of a container that shares its pod's in PATH.
	cmd.Env = append(childEnv(os.Environ()), "PATH="+r.helpers+":"+os.Getenv("PATH"), "GOGC=50", "GOMEMLIMIT=32MiB")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start runtime: %w", err)
	}
	c, err := open(cmd.Process.Pid)
	if err == nil {
		c.owned = cmd.Process
		err = r.note(c.pid)
	}
	if err != nil {
		killErr := cmd.Process.Kill()
		_, waitErr := cmd.Process.Wait()
		return nil, errors.Join(fmt.Errorf("start runtime: %w", err), killErr, waitErr)
	}
	return c, nil
}

// childEnv drops what the service manager told proa alone.
func childEnv(env []string) []string {
	kept := make([]string, 0, len(env)+3)
	for _, e := range env {
		if !strings.HasPrefix(e, "NOTIFY_SOCKET=") && !strings.HasPrefix(e, "LISTEN_") && !strings.HasPrefix(e, "PATH=") && !strings.HasPrefix(e, "GO") {
			kept = append(kept, e)
		}
	}
	return kept
}

func open(pid int) (*child, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	return &child{pid: pid, fd: os.NewFile(uintptr(fd), "pidfd")}, nil
}

// wait blocks until the process has ended (an error that says how) or ctx has (nil).
func (c *child) wait(ctx context.Context) error {
	raw, err := c.fd.SyscallConn()
	if err != nil {
		return fmt.Errorf("watch process %d: %w", c.pid, err)
	}
	stop := context.AfterFunc(ctx, func() {
		if err := c.fd.SetReadDeadline(time.Unix(1, 0)); err != nil {
			return // the descriptor was closed: nobody waits
		}
	})
	defer stop()
	var polled error
	err = raw.Read(func(fd uintptr) bool {
		fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 0)
		polled = err
		return n > 0 || (err != nil && !errors.Is(err, unix.EINTR))
	})
	if ctx.Err() != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return nil
	}
	if err := errors.Join(err, polled); err != nil {
		return fmt.Errorf("watch process %d: %w", c.pid, err)
	}
	return c.reap()
}

// reap collects a child of ours that has ended and says how it ended.
func (c *child) reap() error {
	if c.owned == nil {
		return fmt.Errorf("process %d ended", c.pid)
	}
	state, err := c.owned.Wait()
	c.owned = nil
	if err != nil {
		return fmt.Errorf("wait for process %d: %w", c.pid, err)
	}
	return fmt.Errorf("process %d: %s", c.pid, state)
}

func (c *child) release() {
	if err := c.fd.Close(); err != nil {
		return // closed before
	}
}

func (c *child) signal(s unix.Signal) error {
	raw, err := c.fd.SyscallConn()
	if err != nil {
		return err
	}
	var sent error
	if err := raw.Control(func(fd uintptr) { sent = unix.PidfdSendSignal(int(fd), s, nil, 0) }); err != nil {
		return err
	}
	if errors.Is(sent, unix.ESRCH) {
		return nil
	}
	return sent
}

func (c *child) signalKill() error { return c.signal(unix.SIGKILL) }

// endGrace is how long the runtime has to end by itself.
const endGrace = 10 * time.Second

// end asks the process to end, kills it after endGrace and waits for it.
func (c *child) end(ctx context.Context) error {
	if err := c.signal(unix.SIGTERM); err != nil {
		return fmt.Errorf("end process %d: %w", c.pid, err)
	}
	gentle, cancel := context.WithTimeout(ctx, endGrace)
	defer cancel()
	if err := c.wait(gentle); err != nil {
		return nil // it ended
	}
	if err := c.signalKill(); err != nil {
		return fmt.Errorf("kill process %d: %w", c.pid, err)
	}
	if err := c.fd.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("kill process %d: %w", c.pid, err)
	}
	if err := c.wait(ctx); err == nil {
		return fmt.Errorf("kill process %d: %w", c.pid, ctx.Err())
	}
	return nil
}

// Stop ends the runtime's own process; containers and their shims keep running. It is for
// "proa down" after the pods are gone, and for tests; Run must have returned or will
// start the runtime again.
func (r *Runtime) Stop(ctx context.Context) error {
	c, err := r.find()
	if err != nil || c == nil {
		return err
	}
	defer c.release()
	if err := c.end(ctx); err != nil {
		return err
	}
	return os.Remove(r.pidPath())
}

// identify tells one program file from another without reading it all.
func identify(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %d bytes of %s", path, info.Size(), info.ModTime().UTC().Format(time.RFC3339Nano)), nil
}

// makeUnifiedCgroup makes the group on a machine with the unified hierarchy alone, where
// containerd expects to find it; with v1 hierarchies containerd makes it.
func makeUnifiedCgroup(group string) error {
	if group == "" {
		return nil
	}
	var fs unix.Statfs_t
	if err := unix.Statfs("/sys/fs/cgroup", &fs); err != nil {
		return fmt.Errorf("read cgroup mode: %w", err)
	}
	if fs.Type != unix.CGROUP2_SUPER_MAGIC {
		return nil
	}
	if err := os.MkdirAll(filepath.Join("/sys/fs/cgroup", group), 0o755); err != nil {
		return fmt.Errorf("make cgroup of the runtime: %w", err)
	}
	return nil
}
