// Command proa-cni is the CNI plugin that the container runtime starts: it hands its
// environment and input to the node agent over a unix socket and prints the answer.
// It is a binary of its own because one is started for each pod: it must start in a
// millisecond, so it imports little.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"syscall"

	"github.com/proa-dev/proa/network/cni"
)

// tryAgainLater is CNI's code for a plugin that is not ready.
const tryAgainLater = 11

func main() {
	os.Exit(run())
}

func run() int {
	answer, err := ask()
	if err != nil {
		msg, _ := json.Marshal(err.Error()) // a string always encodes
		fmt.Printf(`{"cniVersion":"1.1.0","code":%d,"msg":%s}`, tryAgainLater, msg)
		return 1
	}
	if _, err := os.Stdout.Write(answer.Stdout); err != nil {
		return 1
	}
	return int(answer.Code)
}

// ask finds the socket in the configuration and waits for the agent's answer.
func ask() (cni.Answer, error) {
	stdin, err := io.ReadAll(io.LimitReader(os.Stdin, cni.MaxFrame))
	if err != nil {
		return cni.Answer{}, fmt.Errorf("read configuration: %w", err)
	}
	var conf struct{ Socket string }
	if len(stdin) > 0 {
		if err := json.Unmarshal(stdin, &conf); err != nil {
			return cni.Answer{}, fmt.Errorf("read configuration: %w", err)
		}
	}
	req := cni.Request{Stdin: stdin}
	for _, e := range os.Environ() {
		if strings.HasPrefix(e, "CNI_") {
			req.Env = append(req.Env, e)
		}
	}
	if conf.Socket == "" {
		if os.Getenv("CNI_COMMAND") == "VERSION" {
			return cni.Answer{Stdout: []byte(cni.Versions)}, nil
		}
		return cni.Answer{}, fmt.Errorf("the configuration names no socket")
	}
	return talk(conf.Socket, req)
}

// talk uses plain system calls: package net would double the start-up time.
func talk(path string, req cni.Request) (cni.Answer, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return cni.Answer{}, fmt.Errorf("open socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	limit := syscall.Timeval{Sec: 60}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &limit); err != nil {
		return cni.Answer{}, fmt.Errorf("limit the wait: %w", err)
	}
	if err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path}); err != nil {
		return cni.Answer{}, fmt.Errorf("network agent at %s does not answer: %w", path, err)
	}
	if err := cni.WriteRequest(f, req); err != nil {
		return cni.Answer{}, err
	}
	return cni.ReadAnswer(f)
}
