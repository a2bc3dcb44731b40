// Package clockstep tells when the machine's clock is set: at the boot of machines without a
// battery, after a suspension, by hand. Timers do not notice.
//
// The one idea: the kernel cancels a timer that was asked to be cancelled so; nothing is polled.
//
// Used by cluster.
package clockstep

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Follow calls stepped each time that the clock was set, until ctx ends.
func Follow(ctx context.Context, stepped func()) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return fmt.Errorf("follow the clock: %w", err)
	}
	timer := os.NewFile(uintptr(fd), "timerfd")
	defer timer.Close()
	stop := context.AfterFunc(ctx, func() { _ = timer.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := timer.SyscallConn()
	if err != nil {
		return fmt.Errorf("follow the clock: %w", err)
	}
	var expirations [8]byte
	for {
		if err := arm(raw.Control); err != nil {
			return fmt.Errorf("follow the clock: %w", err)
		}
		_, err := timer.Read(expirations[:])
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ECANCELED):
			stepped()
		case err != nil:
			return fmt.Errorf("follow the clock: %w", err)
		}
	}
}

// arm sets the timer to a time that does not come.
func arm(control func(func(fd uintptr)) error) error {
	never := unix.ItimerSpec{Value: unix.Timespec{Sec: 1 << 40}}
	var set error
	err := control(func(fd uintptr) {
		set = unix.TimerfdSettime(int(fd), unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &never, nil)
	})
	return errors.Join(err, set)
}
