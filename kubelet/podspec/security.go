package podspec

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// SeccompRoot is where Localhost seccomp profiles are looked for, below the kubelet's root.
const SeccompRoot = "seccomp"

// What a runtime hides and write-protects of /proc and /sys unless procMount is Unmasked.
var (
	maskedPaths = []string{"/proc/asound", "/proc/acpi", "/proc/interrupts", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
		"/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware", "/sys/devices/virtual/powercap"}
	readonlyPaths = []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"}
)

// ImageUser is the user that an image names; UID nil with a name that is not a number.
type ImageUser struct {
	UID  *int64
	Name string
}

// Security is a container's security context: the container's own fields before the pod's.
// root is the kubelet's folder; image tells the image's user for runAsNonRoot.
func Security(pod *corev1.Pod, c *corev1.Container, root string, image *ImageUser) (*runtimeapi.LinuxContainerSecurityContext, error) {
	own, all := c.SecurityContext, pod.Spec.SecurityContext
	if own == nil {
		own = &corev1.SecurityContext{}
	}
	if all == nil {
		all = &corev1.PodSecurityContext{}
	}
	if err := checkNonRoot(pod, c, own, all, image); err != nil {
		return nil, err
	}
	out := &runtimeapi.LinuxContainerSecurityContext{
		NamespaceOptions: namespaces(pod), Privileged: privileged(c),
		RunAsUser: value(first(own.RunAsUser, all.RunAsUser)), RunAsGroup: value(first(own.RunAsGroup, all.RunAsGroup)),
		SupplementalGroups: groups(all), SupplementalGroupsPolicy: groupsPolicy(all),
		ReadonlyRootfs: own.ReadOnlyRootFilesystem != nil && *own.ReadOnlyRootFilesystem,
		NoNewPrivs:     noNewPrivs(own, c),
		SelinuxOptions: selinux(firstSE(own.SELinuxOptions, all.SELinuxOptions)),
	}
	if own.Capabilities != nil {
		out.Capabilities = &runtimeapi.Capability{AddCapabilities: names(own.Capabilities.Add), DropCapabilities: names(own.Capabilities.Drop)}
	}
	if own.ProcMount == nil || *own.ProcMount == corev1.DefaultProcMount {
		out.MaskedPaths, out.ReadonlyPaths = maskedPaths, readonlyPaths
	}
	out.Seccomp = seccomp(own.SeccompProfile, all.SeccompProfile, root)
	out.Apparmor = apparmor(pod, c, own.AppArmorProfile, all.AppArmorProfile)
	return out, nil
}

func checkNonRoot(pod *corev1.Pod, c *corev1.Container, own *corev1.SecurityContext, all *corev1.PodSecurityContext, image *ImageUser) error {
	must := all.RunAsNonRoot
	if own.RunAsNonRoot != nil {
		must = own.RunAsNonRoot
	}
	if must == nil || !*must {
		return nil
	}
	where := fmt.Sprintf("(pod: %q, container: %s)", podName(pod), c.Name)
	if user := first(own.RunAsUser, all.RunAsUser); user != nil {
		if *user == 0 {
			return fmt.Errorf("container's runAsUser breaks non-root policy %s", where)
		}
		return nil
	}
	switch {
	case image == nil:
		return nil
	case image.UID != nil && *image.UID == 0, image.UID == nil && image.Name == "":
		return fmt.Errorf("container has runAsNonRoot and image will run as root %s", where)
	case image.UID == nil:
		return fmt.Errorf("container has runAsNonRoot and image has non-numeric user (%s), cannot verify user is non-root %s", image.Name, where)
	}
	return nil
}

func podName(pod *corev1.Pod) string {
	return fmt.Sprintf("%s_%s(%s)", pod.Name, pod.Namespace, pod.UID)
}

func noNewPrivs(own *corev1.SecurityContext, c *corev1.Container) bool {
	return own.AllowPrivilegeEscalation != nil && !*own.AllowPrivilegeEscalation
}

func seccomp(own, all *corev1.SeccompProfile, root string) *runtimeapi.SecurityProfile {
	p := own
	if p == nil {
		p = all
	}
	if p == nil {
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
	}
	switch p.Type {
	case corev1.SeccompProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	case corev1.SeccompProfileTypeLocalhost:
		ref := ""
		if p.LocalhostProfile != nil {
			ref = filepath.Join(root, SeccompRoot, filepath.Join("/", *p.LocalhostProfile))
		}
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: ref}
	}
	return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
}

func apparmor(pod *corev1.Pod, c *corev1.Container, own, all *corev1.AppArmorProfile) *runtimeapi.SecurityProfile {
	p := own
	if p == nil {
		if old, ok := pod.Annotations[corev1.DeprecatedAppArmorBetaContainerAnnotationKeyPrefix+c.Name]; ok {
			return apparmorNote(old)
		}
		p = all
	}
	if p == nil {
		return nil
	}
	switch p.Type {
	case corev1.AppArmorProfileTypeRuntimeDefault:
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	case corev1.AppArmorProfileTypeLocalhost:
		if p.LocalhostProfile != nil {
			return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: *p.LocalhostProfile}
		}
	}
	return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
}

func apparmorNote(note string) *runtimeapi.SecurityProfile {
	if note == corev1.DeprecatedAppArmorBetaProfileRuntimeDefault || note == "" {
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_RuntimeDefault}
	}
	if ref, ok := strings.CutPrefix(note, corev1.DeprecatedAppArmorBetaProfileNamePrefix); ok {
		return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Localhost, LocalhostRef: ref}
	}
	return &runtimeapi.SecurityProfile{ProfileType: runtimeapi.SecurityProfile_Unconfined}
}

func names(caps []corev1.Capability) []string {
	out := make([]string, 0, len(caps))
	for _, c := range caps {
		out = append(out, string(c))
	}
	return out
}

func groups(sc *corev1.PodSecurityContext) []int64 {
	var out []int64
	if sc.FSGroup != nil {
		out = append(out, *sc.FSGroup)
	}
	return append(out, sc.SupplementalGroups...)
}

func groupsPolicy(sc *corev1.PodSecurityContext) runtimeapi.SupplementalGroupsPolicy {
	if sc.SupplementalGroupsPolicy != nil && *sc.SupplementalGroupsPolicy == corev1.SupplementalGroupsPolicyStrict {
		return runtimeapi.SupplementalGroupsPolicy_Strict
	}
	return runtimeapi.SupplementalGroupsPolicy_Merge
}

func first(a, b *int64) *int64 {
	if a != nil {
		return a
	}
	return b
}

func firstSE(a, b *corev1.SELinuxOptions) *corev1.SELinuxOptions {
	if a != nil {
		return a
	}
	return b
}

func selinux(o *corev1.SELinuxOptions) *runtimeapi.SELinuxOption {
	if o == nil {
		return nil
	}
	return &runtimeapi.SELinuxOption{User: o.User, Role: o.Role, Type: o.Type, Level: o.Level}
}

func value(v *int64) *runtimeapi.Int64Value {
	if v == nil {
		return nil
	}
	return &runtimeapi.Int64Value{Value: *v}
}

// User reads an image's user as the runtime tells it.
func User(uid *runtimeapi.Int64Value, name string) *ImageUser {
	if uid != nil {
		v := uid.Value
		return &ImageUser{UID: &v}
	}
	name, _, _ = strings.Cut(name, ":")
	if n, err := strconv.ParseInt(name, 10, 64); err == nil {
		return &ImageUser{UID: &n}
	}
	if name == "" {
		zero := int64(0)
		return &ImageUser{UID: &zero}
	}
	return &ImageUser{Name: name}
}
