package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/proa-dev/proa/host"
	"github.com/proa-dev/proa/network/cni"
	"github.com/proa-dev/proa/network/policy"
)

// CNI's error codes.
const (
	codeVersion  = 1
	codeEnv      = 4
	codeDecode   = 6
	codeInternal = 999
)

const (
	maxCommands    = 64 // served at once
	requestTimeout = 10 * time.Second
	commandTimeout = 8 * time.Second // so that the answer still arrives
	configVersion  = "1.1.0"
)

// config is what we read of the plugin configuration.
type config struct {
	CNIVersion    string `json:"cniVersion"`
	RuntimeConfig struct {
		PortMappings []struct {
			HostPort      int    `json:"hostPort"`
			ContainerPort int    `json:"containerPort"`
			Protocol      string `json:"protocol"`
			HostIP        string `json:"hostIP"`
		} `json:"portMappings"`
	} `json:"runtimeConfig"`
	Valid *[]struct {
		ContainerID string `json:"containerID"`
		IfName      string `json:"ifname"`
	} `json:"cni.dev/valid-attachments"`
	PrevResult json.RawMessage `json:"prevResult"`
}

// failure is an error in CNI's form.
type failure struct {
	CNIVersion string `json:"cniVersion"`
	Code       int    `json:"code"`
	Msg        string `json:"msg"`
}

func (a *Agent) listen() (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(a.cfg.Socket), 0o700); err != nil {
		return nil, fmt.Errorf("make socket folder: %w", err)
	}
	if err := os.Remove(a.cfg.Socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove old socket: %w", err)
	}
	l, err := net.Listen("unix", a.cfg.Socket)
	if err != nil {
		return nil, fmt.Errorf("serve CNI: %w", err)
	}
	if err := os.Chmod(a.cfg.Socket, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("protect CNI socket: %w", err), l.Close())
	}
	return l, nil
}

// serve answers the plugin until the listener is closed.
func (a *Agent) serve(ctx context.Context, l net.Listener) {
	var commands sync.WaitGroup
	defer commands.Wait()
	slots := make(chan struct{}, maxCommands)
	for {
		conn, err := l.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				a.cfg.Log.Error("CNI socket", "error", err)
			}
			return
		}
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			_ = conn.Close() // the runtime tries again
			return
		}
		commands.Go(func() {
			defer func() { <-slots }()
			a.converse(ctx, conn)
		})
	}
}

func (a *Agent) converse(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(requestTimeout)); err != nil {
		return
	}
	req, err := cni.ReadRequest(conn)
	if err != nil {
		a.cfg.Log.Warn("CNI request", "error", err)
		return
	}
	env := map[string]string{}
	for _, e := range req.Env {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	out, fail := a.command(ctx, env, req.Stdin)
	answer := cni.Answer{Stdout: out}
	if fail != nil {
		answer.Code = 1
		answer.Stdout, err = json.Marshal(fail)
		a.cfg.Log.Error("CNI "+env["CNI_COMMAND"], "container", env["CNI_CONTAINERID"], "error", fail.Msg)
	} else {
		a.cfg.Log.Debug("CNI "+env["CNI_COMMAND"], "container", env["CNI_CONTAINERID"], "took", time.Since(began))
	}
	if err == nil {
		err = cni.WriteAnswer(conn, answer)
	}
	if err != nil {
		a.cfg.Log.Warn("CNI answer", "error", err)
	}
}

// command performs one CNI command and gives what the plugin prints.
func (a *Agent) command(ctx context.Context, env map[string]string, stdin []byte) ([]byte, *failure) {
	var conf config
	if env["CNI_COMMAND"] == "VERSION" {
		return []byte(cni.Versions), nil
	}
	if err := json.Unmarshal(stdin, &conf); err != nil {
		return nil, &failure{configVersion, codeDecode, "read configuration: " + err.Error()}
	}
	fail := func(code int, err error) *failure { return &failure{conf.CNIVersion, code, err.Error()} }
	if !strings.Contains(cni.Versions, `"`+conf.CNIVersion+`"`) {
		return nil, fail(codeVersion, fmt.Errorf("cniVersion %q is not supported", conf.CNIVersion))
	}
	switch env["CNI_COMMAND"] {
	case "STATUS":
		return nil, nil
	case "GC":
		if err := a.collect(conf); err != nil {
			return nil, fail(codeInternal, err)
		}
		return nil, nil
	}
	att := attachment{env["CNI_CONTAINERID"], env["CNI_IFNAME"]}
	if err := att.validate(); err != nil {
		return nil, fail(codeEnv, err)
	}
	lock := a.lockContainer(att.container)
	defer lock.Unlock()
	var out []byte
	var err error
	switch env["CNI_COMMAND"] {
	case "ADD":
		var pod policy.Pod
		if pod, err = podOf(env["CNI_ARGS"]); err == nil {
			out, err = a.add(ctx, att, pod, env["CNI_NETNS"], conf)
		}
	case "DEL":
		err = a.detach(att)
	case "CHECK":
		err = a.check(att)
	default:
		return nil, fail(codeEnv, fmt.Errorf("CNI_COMMAND %q: must be ADD, DEL, CHECK, GC, STATUS or VERSION", env["CNI_COMMAND"]))
	}
	if err != nil {
		return nil, fail(codeInternal, err)
	}
	return out, nil
}

// lockContainer lets one command at a time at a container.
func (a *Agent) lockContainer(id string) *sync.Mutex {
	m := &a.attaching[crc32.ChecksumIEEE([]byte(id))%uint32(len(a.attaching))]
	m.Lock()
	return m
}

// validate keeps what goes into file content and link names simple.
func (att attachment) validate() error {
	switch {
	case att.container == "" || strings.ContainsAny(att.container, "/ \n\t"):
		return fmt.Errorf("CNI_CONTAINERID %q: must be set and have no space or slash", att.container)
	case att.link == "" || len(att.link) > 15 || att.link == "." || att.link == ".." || strings.ContainsAny(att.link, "/: \n\t"):
		return fmt.Errorf("CNI_IFNAME %q: must be a link name of at most 15 bytes", att.link)
	}
	return nil
}

// podOf is the pod that a container belongs to; none when the runtime does not say.
func podOf(args string) (policy.Pod, error) {
	var p policy.Pod
	for _, arg := range strings.Split(args, ";") {
		key, value, _ := strings.Cut(arg, "=")
		if strings.ContainsAny(value, " \t\n") {
			return p, fmt.Errorf("CNI_ARGS %s=%q: must have no space", key, value)
		}
		switch key {
		case "K8S_POD_NAMESPACE":
			p.Namespace = value
		case "K8S_POD_NAME":
			p.Name = value
		case "K8S_POD_UID":
			p.UID = types.UID(value)
		}
	}
	if p.Namespace == "" || p.Name == "" || p.UID == "" {
		return policy.Pod{}, nil
	}
	return p, nil
}

func (a *Agent) add(ctx context.Context, att attachment, pod policy.Pod, nsPath string, conf config) ([]byte, error) {
	var ports []hostPort
	for _, m := range conf.RuntimeConfig.PortMappings {
		if m.HostPort == 0 {
			continue
		}
		if m.HostPort < 0 || m.HostPort > 65535 || m.ContainerPort < 1 || m.ContainerPort > 65535 {
			return nil, fmt.Errorf("host port %d to %d: ports are 1 to 65535", m.HostPort, m.ContainerPort)
		}
		ports = append(ports, hostPort{m.HostIP, strings.ToLower(m.Protocol), uint16(m.HostPort), uint16(m.ContainerPort)})
	}
	ip, err := a.attach(ctx, att, pod, nsPath, ports)
	if err != nil {
		return nil, err
	}
	return a.result(att, nsPath, ip, conf.CNIVersion)
}

// result is what ADD prints.
func (a *Agent) result(att attachment, nsPath string, ip netip.Addr, version string) ([]byte, error) {
	type m = map[string]any
	gateway := gatewayOf(a.cidr).String()
	address := m{"address": ip.String() + "/32", "gateway": gateway, "interface": 1}
	if strings.HasPrefix(version, "0.") {
		address["version"] = "4"
	}
	return json.Marshal(m{
		"cniVersion": version,
		"interfaces": []m{
			{"name": hostLink(att)},
			{"name": att.link, "mac": macOf(ip).String(), "sandbox": nsPath},
		},
		"ips":    []m{address},
		"routes": []m{{"dst": "0.0.0.0/0", "gw": gateway}},
		"dns":    m{},
	})
}

// collect frees what the runtime says is no longer attached.
func (a *Agent) collect(conf config) error {
	if conf.Valid == nil {
		return nil
	}
	valid := map[attachment]bool{}
	for _, v := range *conf.Valid {
		valid[attachment{v.ContainerID, v.IfName}] = true
	}
	var errs error
	for _, att := range a.addresses.all() {
		if !valid[att] {
			errs = errors.Join(errs, a.detach(att))
		}
	}
	return errs
}

// install puts the plugin and its configuration where the runtime looks; the configuration
// last, because the runtime takes it as the sign that the network is ready.
func (a *Agent) install() error {
	bin := filepath.Join(a.cfg.CNIBinDir, "proa-cni")
	if a.cfg.CNIBinary != "" && a.cfg.CNIBinary != bin {
		content, err := os.ReadFile(a.cfg.CNIBinary)
		if err != nil {
			return fmt.Errorf("read CNI plugin: %w", err)
		}
		if err := a.writeOwn(bin, content, 0o755); err != nil {
			return fmt.Errorf("install CNI plugin: %w", err)
		}
	}
	conf, err := json.MarshalIndent(map[string]any{
		"cniVersion": configVersion,
		"name":       "proa-" + a.cfg.Cluster,
		"plugins": []map[string]any{{
			"type": "proa-cni", "socket": a.cfg.Socket, "capabilities": map[string]bool{"portMappings": true},
		}},
	}, "", "  ")
	if err != nil {
		return fmt.Errorf("write CNI configuration: %w", err)
	}
	if err := a.writeOwn(filepath.Join(a.cfg.CNIConfDir, "10-proa-"+a.cfg.Cluster+".conflist"), conf, 0o644); err != nil {
		return fmt.Errorf("write CNI configuration: %w", err)
	}
	return nil
}

// writeOwn records and writes a file of ours that differs.
func (a *Agent) writeOwn(path string, content []byte, mode os.FileMode) error {
	if was, err := os.ReadFile(path); err == nil && bytes.Equal(was, content) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	if err := a.cfg.Recorder.Record(host.Change{Kind: host.Path, Name: path, Volatile: true}); err != nil {
		return err
	}
	return replaceFile(path, content, mode)
}
