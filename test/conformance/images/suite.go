package images

import (
	"context"
	"fmt"
	"path/filepath"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Inputs is what the suite's images are made of.
type Inputs struct {
	Kubernetes string // the module's folder, for the files beside the programs
	Programs   string // folder of agnhost, etcd, nonewprivs, pause and sample-apiserver, static
	Cache      string // for packages and busybox
}

// Pause is the reference of the sandbox image, which a cluster has already.
const Pause = "registry.k8s.io/pause:3.10.2"

// repository is where most of the suite's images are.
const repository = "registry.k8s.io/e2e-test-images/"

// packages of the distribution from which images take programs.
var packages = []string{"bash", "bind9-dnsutils", "curl", "dash", "iperf", "iproute2", "libc-bin",
	"netcat-openbsd", "nginx", "socat", "util-linux"}

// ForSuite makes all images that conformance specs of v1.37 ask for; the references are
// those of test/utils/image/manifest.go.
func ForSuite(ctx context.Context, in Inputs, s *Store) error {
	busybox, err := Busybox(ctx, filepath.Join(in.Cache, "busybox"))
	if err != nil {
		return err
	}
	pkgs, err := FetchPackages(ctx, filepath.Join(in.Cache, "packages"), packages...)
	if err != nil {
		return err
	}
	base := system("Debian GNU/Linux", "debian", nil)
	if err := applets(ctx, base, busybox); err != nil {
		return err
	}
	m := maker{in: in, base: base, pkgs: pkgs}
	for _, group := range []func() ([]Image, error){m.small, m.agnhost, m.nginx, m.dns, m.servers} {
		images, err := group()
		if err != nil {
			return err
		}
		for _, i := range images {
			if err := s.Add(i); err != nil {
				return err
			}
		}
	}
	return s.Prune()
}

type maker struct {
	in   Inputs
	base Root // busybox and the files that every system has
	pkgs *Packages
}

func (m *maker) program(name string) string { return filepath.Join(m.in.Programs, name) }

// environ is the environment that images of upstream have.
var environ = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}

// system is the files that programs expect of any system. users are further lines of
// passwd and group.
func system(name, id string, users map[string]string) Root {
	r := Root{}
	r.File("etc/os-release", 0o644, fmt.Sprintf("NAME=%q\nID=%s\nPRETTY_NAME=%q\n", name, id, name))
	r.File("etc/passwd", 0o644, "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n"+users["passwd"])
	r.File("etc/group", 0o644, "root:x:0:\ntty:x:5:\nnogroup:x:65534:\n"+users["group"])
	r.File("etc/nsswitch.conf", 0o644, "passwd: files\ngroup: files\nhosts: files dns\n")
	r.File("etc/protocols", 0o644, "ip 0 IP\nicmp 1 ICMP\ntcp 6 TCP\nudp 17 UDP\n")
	r.File("etc/services", 0o644, "domain 53/tcp\ndomain 53/udp\nhttp 80/tcp\nhttps 443/tcp\n")
	r.Dir("root", 0o700)
	r.Dir("tmp", 0o777|sticky)
	r.Dir("var/tmp", 0o777|sticky)
	r.Dir("usr/local/bin", 0o755)
	r.Link("var/run", "/run")
	r.Dir("run", 0o755)
	for _, dir := range []string{"dev", "proc", "sys", "home", "opt", "mnt"} {
		r.Dir(dir, 0o755)
	}
	return r
}

// small makes the images without packages.
func (m *maker) small() ([]Image, error) {
	pause := Root{}
	pause.Copy("pause", 0o755, m.program("pause"))
	nnp := Root{}
	nnp.Copy("usr/local/bin/nnp", 0o755|setuid, m.program("nonewprivs"))
	base := []Root{m.base}
	return []Image{
		{Pause, []Root{pause}, ocispec.ImageConfig{User: "65535:65535", Entrypoint: []string{"/pause"}, Env: environ}},
		{repository + "busybox:1.37.0-2", base, ocispec.ImageConfig{Cmd: []string{"sh"}, Env: environ}},
		{repository + "nonroot:1.5", base, ocispec.ImageConfig{Cmd: []string{"sh"}, Env: environ, User: "1234"}},
		{repository + "nonewprivs:1.4", []Root{m.base, nnp}, ocispec.ImageConfig{Cmd: []string{"nnp"}, Env: environ}},
	}, nil
}

// agnhost makes the image that most specs run, and those that are built on it.
func (m *maker) agnhost() ([]Image, error) {
	tools, err := m.tools(map[string]string{
		"usr/bin/dig": "usr/bin/dig", "usr/bin/nslookup": "usr/bin/nslookup", "usr/bin/host": "usr/bin/host",
		"usr/bin/curl": "usr/bin/curl", "usr/bin/nc": "bin/nc.openbsd", "usr/bin/bash": "bin/bash",
		"usr/bin/iperf": "usr/bin/iperf", "usr/bin/socat": "usr/bin/socat", "usr/bin/ipcs": "usr/bin/ipcs",
		"usr/bin/ipcmk": "usr/bin/ipcmk", "usr/bin/ipcrm": "usr/bin/ipcrm",
		"usr/bin/getent": "usr/bin/getent", "usr/bin/ip": "bin/ip", "usr/bin/ss": "bin/ss", "usr/bin/nsenter": "usr/bin/nsenter", "usr/bin/unshare": "usr/bin/unshare",
	})
	if err != nil {
		return nil, err
	}
	tools.Link("bin/bash", "/usr/bin/bash")
	tools.Link("usr/local/bin/iperf", "/usr/bin/iperf")
	// A spec finds this name in the image.
	system := system("Alpine Linux", "alpine", map[string]string{
		"passwd": "user-defined-in-image:x:1000:1000::/home/user-defined-in-image:/bin/sh\n",
		"group":  "user-defined-in-image:x:1000:\ngroup-defined-in-image:x:50000:user-defined-in-image\n",
	})
	program := Root{}
	program.Copy("agnhost", 0o755, m.program("agnhost"))
	program.Link("agnhost-2", "agnhost")
	program.Dir("uploads", 0o755)
	images := filepath.Join(m.in.Kubernetes, "test", "images")
	for _, file := range []string{"localhost.crt", "localhost.key"} {
		program.Copy(file, 0o644, filepath.Join(images, "agnhost", "porter", file))
	}
	layers := []Root{m.base.With(system), tools, program}
	config := ocispec.ImageConfig{Entrypoint: []string{"/agnhost"}, Cmd: []string{"pause"}, Env: environ,
		ExposedPorts: map[string]struct{}{"80/tcp": {}, "8080/tcp": {}, "8081/tcp": {}, "9376/tcp": {}, "5000/tcp": {}}}
	older := config
	older.Labels = map[string]string{"version": "2.55"} // another image, as upstream's are
	all := []Image{{repository + "agnhost:2.66.1", layers, config}, {repository + "agnhost:2.55", layers, older}}
	for _, name := range []string{"nautilus", "kitten"} {
		page := Root{}
		for _, file := range []string{name + ".jpg", "data.json"} {
			page.Copy(file, 0o644, filepath.Join(images, name, "html", file))
		}
		with := config
		with.Cmd = []string{"test-webserver"}
		all = append(all, Image{repository + name + ":1.8", append(layers[:3:3], page), with})
	}
	return all, nil
}

func (m *maker) tools(programs map[string]string) (Root, error) {
	r := Root{}
	for name, from := range programs {
		if err := m.pkgs.Program(r, name, from); err != nil {
			return nil, err
		}
	}
	return r, nil
}

const nginxConfig = `user nobody nogroup;
worker_processes 1;
pid /run/nginx.pid;
error_log /dev/stderr notice;
events { worker_connections 256; }
http {
  access_log /dev/stdout;
  default_type text/html;
  server {
    listen 80;
    listen [::]:80;
    location / { root /usr/share/nginx/html; index index.html; }
  }
}
`

// nginx makes two web servers that differ in a label only.
func (m *maker) nginx() ([]Image, error) {
	r, err := m.tools(map[string]string{"usr/sbin/nginx": "usr/sbin/nginx"})
	if err != nil {
		return nil, err
	}
	r.File("etc/nginx/nginx.conf", 0o644, nginxConfig)
	r.File("usr/share/nginx/html/index.html", 0o644, "<!DOCTYPE html>\n<title>Welcome to nginx!</title>\n<h1>Welcome to nginx!</h1>\n")
	for _, dir := range []string{"var/lib/nginx", "var/log/nginx"} {
		r.Dir(dir, 0o755)
	}
	var all []Image
	for _, version := range []string{"1.27.0-2", "1.28.0-2"} {
		all = append(all, Image{repository + "nginx:" + version, []Root{m.base, r}, ocispec.ImageConfig{
			Cmd: []string{"nginx", "-g", "daemon off;"}, Env: environ, StopSignal: "SIGQUIT",
			ExposedPorts: map[string]struct{}{"80/tcp": {}}, Labels: map[string]string{"version": version},
		}})
	}
	return all, nil
}

// dns makes the image that asks the cluster's names with glibc's resolver.
func (m *maker) dns() ([]Image, error) {
	r, err := m.tools(map[string]string{"usr/bin/dig": "usr/bin/dig", "usr/bin/getent": "usr/bin/getent", "usr/bin/dash": "bin/dash"})
	if err != nil {
		return nil, err
	}
	r.Link("bin/sh", "/usr/bin/dash")
	return []Image{{repository + "glibc-dns-testing:2.1.1", []Root{m.base, r}, ocispec.ImageConfig{Cmd: []string{"sh"}, Env: environ}}}, nil
}

// servers makes the two programs of the aggregation spec.
func (m *maker) servers() ([]Image, error) {
	sample, etcd := Root{}, Root{}
	sample.Copy("sample-apiserver", 0o755, m.program("sample-apiserver"))
	etcd.Copy("usr/local/bin/etcd", 0o755, m.program("etcd"))
	return []Image{
		{repository + "sample-apiserver:1.29.2", []Root{m.base, sample}, ocispec.ImageConfig{Entrypoint: []string{"/sample-apiserver"}, Env: environ}},
		{"registry.k8s.io/etcd:3.7.0-0", []Root{m.base, etcd}, ocispec.ImageConfig{Entrypoint: []string{"etcd"}, Env: environ}},
	}, nil
}
