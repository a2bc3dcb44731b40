package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// journeyApp is what the journey through kubectl's commands works on; %s is its namespace.
const journeyApp = `apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: %[1]s}
data: {color: blue}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: %[1]s}
spec:
  replicas: 1
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
        - name: web
          image: proa.local/demo:v1
          ports: [{name: http, containerPort: 8080}]
          readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 1}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: %[1]s}
spec:
  selector: {app: web}
  ports: [{port: 80, targetPort: http}]
---
apiVersion: v1
kind: Pod
metadata: {name: tool, namespace: %[1]s}
spec:
  terminationGracePeriodSeconds: 1
  containers:
    - name: tool
      image: proa.local/demo:v1
      stdin: true
      command: [/bin/sh, -c]
      args: ["n=0; while n=$((n+1)); do echo line $n; read -t 1 said && echo heard $said; done"]
`

// TestKubectl walks through the commands of kubectl, as each kubectl of this machine has them.
func TestKubectl(t *testing.T) {
	s := up(t)
	s.loadDemo()
	t.Run("all", func(t *testing.T) {
		for name := range s.kubectls {
			t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
				t.Parallel()
				j := &journey{tool: s.with(t, name), ns: "by-" + strings.ReplaceAll(name, " ", "-")}
				j.walk(t)
			})
		}
	})
}

// journey is one kubectl in a namespace of its own.
type journey struct {
	*tool
	ns string
}

// n is a command line in the journey's namespace.
func (j *journey) n(line string) []string {
	return append([]string{"--namespace=" + j.ns}, words(line)...)
}

func (j *journey) walk(t *testing.T) {
	j.ok("create", "namespace", j.ns)
	for _, step := range []struct {
		name string
		do   func(*journey)
	}{
		{"apply", (*journey).apply}, {"get", (*journey).get}, {"describe", (*journey).describe},
		{"edit", (*journey).edit}, {"label", (*journey).label}, {"patch", (*journey).patch},
		{"server-side", (*journey).serverSide}, {"logs", (*journey).logs}, {"exec", (*journey).exec},
		{"attach", (*journey).attach}, {"cp", (*journey).cp}, {"port-forward", (*journey).portForward},
		{"rollout", (*journey).rollout}, {"watch", (*journey).watch}, {"who", (*journey).who},
		{"delete", (*journey).delete},
	} {
		if !t.Run(step.name, func(t *testing.T) {
			own := *j.tool
			own.t = t
			step.do(&journey{tool: &own, ns: j.ns})
		}) && step.name == "apply" {
			t.Fatal("without it there is nothing to see")
		}
	}
}

func (j *journey) apply() {
	app := fmt.Sprintf(journeyApp, j.ns)
	j.input(app).says(words("apply -f -"), "deployment.apps/web created", "service/web created", "pod/tool created")
	j.input(app).says(words("apply -f -"), "deployment.apps/web unchanged", "configmap/settings unchanged")
	j.says(j.n("rollout status deployment/web --timeout=60s"), "successfully rolled out")
	j.says(j.n("wait --for=condition=Ready pod/tool --timeout=60s"), "pod/tool condition met")
	// diff ends with 1 when there is a difference.
	out, err := j.input(strings.Replace(app, "color: blue", "color: red", 1)).try("diff", "-f", "-")
	if err == nil {
		j.t.Error("diff: no difference")
	}
	contains(j.t, "kubectl diff", out, "-  color: blue", "+  color: red")
	j.input(app).says(words("diff -f -"))
}

func (j *journey) get() {
	j.says(j.n("get pods"), "NAME", "READY", "STATUS", "RESTARTS", "AGE", "tool", "1/1", "Running")
	j.says(j.n("get pods -o wide --show-labels"), "IP", "NODE", "NOMINATED NODE", "READINESS GATES", "LABELS", "app=web")
	j.says(j.n("get deployment web -o yaml"), "kind: Deployment", "revisionHistoryLimit: 10", "availableReplicas: 1")
	j.says(j.n("get configmap settings -o json"), `"color": "blue"`)
	if out := j.ok(j.n("get service web -o jsonpath={.spec.ports[0].port}/{.spec.type}")...); out != "80/ClusterIP" {
		j.t.Errorf("jsonpath: %q", out)
	}
	j.says(j.n("get pod tool -o custom-columns=N:.metadata.name,P:.status.phase"), "tool   Running")
	j.says(j.n("get all"), "pod/tool", "service/web", "deployment.apps/web", "replicaset.apps/web-")
	j.says(j.n("get pods -l app=web -o name"), "pod/web-")
	j.says(j.n("get pods --field-selector=status.phase=Pending"), "No resources found")
	j.says(words("get nodes -o wide"), "INTERNAL-IP", "OS-IMAGE", "Ready")
	j.says(words("get ns,sa -A"), "kube-system", "default")
	j.refuses(j.n("get pod nosuch"), `Error from server (NotFound): pods "nosuch" not found`)
	j.refuses(j.n("get nosuch"), `the server doesn't have a resource type "nosuch"`)
	j.says(words("api-resources"), "deployments", "deploy", "apps/v1", "endpointslices")
	j.says(words("api-versions"), "rbac.authorization.k8s.io/v1", "batch/v1")
	j.says(words("version"), "Server Version: v1.37")
	j.says(words("cluster-info"), "is running at")
	j.says(words("explain deployment.spec.strategy"), "GROUP:      apps", "KIND:       Deployment", "rollingUpdate", "enum: Recreate, RollingUpdate")
	j.says(words("explain deployment.spec.strategy --recursive"), "maxSurge")
	j.says(words("explain pods.spec.containers"), "<[]Container>", "image", "FIELD: containers")
	j.says(words("top pods -A"), "CPU(cores)", "tool")
}

func (j *journey) describe() {
	j.says(j.n("describe pod tool"), "Status:           Running", "Containers:", "Conditions:", "Events:", "Scheduled", "Pulled", "Created", "Started")
	j.says(j.n("describe deployment web"), "StrategyType:           RollingUpdate", "ScalingReplicaSet", "NewReplicaSet:")
	j.says(j.n("describe service web"), "Endpoints:", ":8080")
	j.says(words("describe node"), "Allocatable:", "Non-terminated Pods:", "KubeletReady", "PodCIDR:")
	j.says(j.n("describe configmap settings"), "blue")
	j.says(j.n("get events"), "LAST SEEN", "Scheduled")
	j.says(j.n("events --for pod/tool"), "Started")
}

func (j *journey) edit() {
	edit := j.environment("KUBE_EDITOR=sed -i s/blue/green/")
	edit.says(j.n("edit configmap settings"), "configmap/settings edited")
	j.says(j.n("get configmap settings -o jsonpath={.data.color}"), "green")
	j.environment("KUBE_EDITOR=true").says(j.n("edit configmap settings"), "Edit cancelled, no changes made")
}

func (j *journey) label() {
	j.says(j.n("label pod tool tier=back"), "pod/tool labeled")
	j.refuses(j.n("label pod tool tier=front"), "'tier' already has a value (back), and --overwrite is false")
	j.says(j.n("label pod tool tier=front --overwrite"), "pod/tool labeled")
	j.says(j.n("get pods -l tier=front -L tier"), "tool", "front")
	j.says(j.n("label pod tool tier-"), "pod/tool unlabeled")
	j.says(j.n("annotate pod tool note=hello"), "pod/tool annotated")
	j.says(j.n("get pod tool -o jsonpath={.metadata.annotations.note}"), "hello")
	j.refuses(j.n("label pod tool bad_=x"), "Invalid")
}

func (j *journey) patch() {
	j.says(append(j.n("patch deployment web -p"), `{"spec":{"template":{"spec":{"containers":[{"name":"web","env":[{"name":"A","value":"1"}]}]}}}}`), "deployment.apps/web patched")
	j.says(j.n("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}"), "proa.local/demo:v1")
	j.says(append(j.n("patch configmap settings --type=merge -p"), `{"data":{"size":"big","color":null}}`), "patched")
	j.says(append(j.n("patch configmap settings --type=json -p"), `[{"op":"test","path":"/data/size","value":"big"},{"op":"add","path":"/data/shape","value":"round"}]`), "patched")
	j.says(j.n("get configmap settings -o jsonpath={.data}"), `"shape":"round"`, `"size":"big"`)
	j.refuses(append(j.n("patch configmap settings --type=json -p"), `[{"op":"remove","path":"/data/nosuch"}]`), "The request is invalid")
	j.refuses(append(j.n("patch deployment web -p"), `{"spec":{"replicas":-1}}`), "spec.replicas: Invalid value: -1: must be greater than or equal to 0")
	j.says(append(j.n("patch deployment web --subresource=scale --type=merge -p"), `{"spec":{"replicas":1}}`), "patched")
	j.says(j.n("rollout status deployment/web --timeout=60s"), "successfully rolled out")
}

func (j *journey) serverSide() {
	object := func(size string) string {
		return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shared, namespace: " + j.ns + "}\ndata: {size: " + size + "}\n"
	}
	one := words("apply --server-side --field-manager=one -f -")
	two := words("apply --server-side --field-manager=two -f -")
	j.input(object("small")).says(one, "configmap/shared serverside-applied")
	j.input(object("large")).refuses(two, "Apply failed with 1 conflict", `conflict with "one"`, ".data.size")
	j.input(object("large")).says(append(two, "--force-conflicts"), "serverside-applied")
	j.says(j.n("get configmap shared -o yaml --show-managed-fields"), "manager: two", "operation: Apply", "f:size")
}

func (j *journey) logs() {
	j.says(j.n("logs tool --tail=2"), "line ")
	if out := j.ok(j.n("logs tool --tail=2")...); strings.Count(out, "\n") != 2 {
		j.t.Errorf("--tail=2 gave %q", out)
	}
	j.says(j.n("logs tool --timestamps --limit-bytes=60"), "T")
	j.says(j.n("logs -l app=web --prefix"), "[pod/web-", "web v1 listens on")
	j.refuses(j.n("logs tool -c nosuch"), "container nosuch is not valid for pod tool")
	j.refuses(j.n("logs tool --previous"), "previous terminated container")
	out := j.during(func(string) bool { return true }, 3, j.n("logs -f tool --tail=1")...)
	contains(j.t, "logs -f", out, "line ")
}

// during runs a command until enough of its lines are as wanted, and ends it.
func (j *journey) during(wanted func(line string) bool, enough int, args ...string) string {
	j.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	cmd := j.s.command(ctx, j.how, args...)
	if j.open != nil {
		in, err := cmd.StdinPipe()
		if err != nil {
			j.t.Fatal(err)
		}
		go func() { _, _ = io.Copy(in, j.open) }() // ends with the command
	}
	seen := &lines{wanted: wanted, left: enough, reached: cancel}
	cmd.Stdout, cmd.Stderr = seen, seen
	err := cmd.Run()
	if seen.left > 0 {
		j.t.Errorf("kubectl %s: %v, and %d lines are missing after:\n%s", strings.Join(args, " "), err, seen.left, seen.text)
	}
	return string(seen.text)
}

func (j *journey) exec() {
	if out := j.ok(j.n("exec tool -- echo a b")...); out != "a b\n" {
		j.t.Errorf("exec echo: %q", out)
	}
	big := strings.Repeat("0123456789abcdef", 64*1024)
	if out := j.input(big).stdout(j.n("exec -i tool -- cat")...); out != big {
		j.t.Errorf("exec cat: %d bytes of %d came back", len(out), len(big))
	}
	out, err := j.try(j.n("exec tool -- sh -c exit${IFS}7")...)
	if exit, is := err.(*exec.ExitError); !is || exit.ExitCode() != 7 {
		j.t.Errorf("exec exit 7: %v\n%s", err, out)
	}
	j.refuses(j.n("exec tool -- nosuch"), "executable file not found")
	j.refuses(j.n("exec nosuch -- true"), `pods "nosuch" not found`)
	j.terminal()
}

// terminal runs exec -it in a pseudo terminal made by script(1).
func (j *journey) terminal() {
	script, err := exec.LookPath("script")
	if err != nil {
		j.t.Log("no script(1): no terminal tried")
		return
	}
	line := strings.Join(append(j.how, j.n("exec -it tool -- sh -c")...), " ") + ` 'test -t 0 && echo is a terminal'`
	c := &journey{tool: &tool{s: j.s, t: j.t, how: []string{script, "-qec", line, "/dev/null"}}}
	c.says(nil, "is a terminal")
}

func (j *journey) attach() {
	// Standard input stays open: its end detaches.
	read, write := io.Pipe()
	defer write.Close()
	go func() { _, _ = io.WriteString(write, "ahoy\n") }()
	own := *j.tool
	own.open = read
	heard := func(line string) bool { return strings.Contains(line, "heard ahoy") }
	(&journey{tool: &own, ns: j.ns}).during(heard, 1, j.n("attach -i tool")...)
}

func (j *journey) cp() {
	path := filepath.Join(j.s.dir, j.ns+"-in")
	data := []byte(strings.Repeat("precious\n", 10000))
	if err := os.WriteFile(path, data, 0o600); err != nil {
		j.t.Fatal(err)
	}
	j.ok(j.n("cp " + path + " tool:/tmp/there")...)
	j.ok(j.n("cp tool:/tmp/there " + path + "-back")...)
	back, err := os.ReadFile(path + "-back")
	if err != nil || string(back) != string(data) {
		j.t.Errorf("cp: %d bytes of %d came back: %v", len(back), len(data), err)
	}
}

func (j *journey) portForward() {
	for _, to := range []string{"pod", "service/web"} {
		if to == "pod" {
			to = strings.TrimSpace(j.ok(j.n("get pods -l app=web -o name")...))
			to, _, _ = strings.Cut(to, "\n")
		}
		port := freePort(j.t)
		target := fmt.Sprintf("%d:8080", port)
		if strings.HasPrefix(to, "service") {
			target = fmt.Sprintf("%d:80", port)
		}
		ctx, cancel := context.WithCancel(context.Background())
		cmd := j.s.command(ctx, j.how, j.n("port-forward "+to+" "+target)...)
		if err := cmd.Start(); err != nil {
			j.t.Fatal(err)
		}
		var body string
		eventually(j.t, 15*time.Second, "an answer through port-forward "+to, func() bool {
			var err error
			body, err = fetch(fmt.Sprintf("http://127.0.0.1:%d/", port))
			return err == nil
		})
		contains(j.t, "port-forward "+to, body, "hello from v1")
		cancel()
		_ = cmd.Wait() // ended by us
	}
}

func (j *journey) rollout() {
	j.says(j.n("scale deployment web --replicas=3"), "deployment.apps/web scaled")
	j.says(j.n("rollout status deployment/web --timeout=60s"), "successfully rolled out")
	if out := j.ok(j.n("get pods -l app=web -o name")...); strings.Count(out, "pod/") < 3 {
		j.t.Errorf("3 pods were asked for: %s", out)
	}
	j.says(j.n("set image deployment/web web=proa.local/demo:v2"), "deployment.apps/web image updated")
	j.says(j.n("rollout status deployment/web --timeout=60s"), "successfully rolled out")
	j.says(j.n("exec deployment/web -- wget -q -O - http://127.0.0.1:8080/"), "hello from v")
	j.says(j.n("rollout history deployment/web"), "REVISION", "CHANGE-CAUSE", "2")
	j.says(j.n("rollout undo deployment/web"), "deployment.apps/web rolled back")
	j.says(j.n("rollout status deployment/web --timeout=60s"), "successfully rolled out")
	j.says(j.n("get deployment web -o jsonpath={.spec.template.spec.containers[0].image}"), "proa.local/demo:v1")
	j.says(j.n("rollout restart deployment/web"), "restarted")
	j.says(j.n("rollout status deployment/web --timeout=60s"), "successfully rolled out")
	j.refuses(j.n("rollout undo deployment/web --to-revision=99"), "unable to find specified revision 99")
}

func (j *journey) watch() {
	go func() {
		time.Sleep(time.Second) // the watch below has begun
		j.input(fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: seen, namespace: %s}\n", j.ns)).says(words("apply -f -"))
	}()
	j.during(func(line string) bool { return strings.HasPrefix(line, "seen") }, 1, j.n("get configmaps --watch")...)
}

func (j *journey) who() {
	j.says(words("auth can-i * *"), "yes")
	j.says(words("auth whoami"), "system:masters")
	j.refuses(j.n("auth can-i delete pods --as=system:serviceaccount:"+j.ns+":default"), "no")
	j.ok(j.n("create role reader --verb=get,list --resource=pods")...)
	j.ok(j.n("create rolebinding reader --role=reader --serviceaccount=" + j.ns + ":default")...)
	j.says(j.n("auth can-i list pods --as=system:serviceaccount:"+j.ns+":default"), "yes")
	j.refuses(j.n("get secrets --as=system:serviceaccount:"+j.ns+":default"), "Forbidden",
		`User "system:serviceaccount:`+j.ns+`:default" cannot list resource "secrets" in API group "" in the namespace "`+j.ns+`"`)
	token := strings.TrimSpace(j.ok(j.n("create token default")...))
	j.says(append(j.n("get pods"), "--token="+token, "--kubeconfig=/dev/null", "--insecure-skip-tls-verify", "--server="+j.s.server()), "tool")
}

func (j *journey) delete() {
	j.says(j.n("delete pod tool"), `pod "tool" deleted`)
	j.refuses(j.n("get pod tool"), "not found")
	j.says(j.n("delete deployment web --wait"), `deployment.apps "web" deleted`)
	j.says(j.n("wait --for=delete pod -l app=web --timeout=30s"))
	j.says(words("delete namespace "+j.ns+" --timeout=20s"), `namespace "`+j.ns+`" deleted`)
	j.refuses(words("get namespace "+j.ns), "NotFound")
}

// server is the API's address.
func (s *site) server() string {
	return strings.TrimSpace(s.kubectl("config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"))
}

func freePort(t testing.TB) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// fetch gets a page, each time over a connection of its own.
func fetch(url string) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(url)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", url, answer.Status)
	}
	return string(body), err
}

// lines counts the lines that are as wanted and calls reached at the last one needed.
type lines struct {
	wanted  func(string) bool
	left    int
	reached func()
	text    []byte
	rest    string
}

func (l *lines) Write(p []byte) (int, error) {
	l.text = append(l.text, p...)
	l.rest += string(p)
	for {
		line, rest, whole := strings.Cut(l.rest, "\n")
		if !whole {
			return len(p), nil
		}
		l.rest = rest
		if l.wanted(line) {
			l.left--
		}
		if l.left == 0 {
			l.reached()
		}
	}
}
