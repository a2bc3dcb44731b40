package scheduler

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corelisters "k8s.io/client-go/listers/core/v1"
	storagelisters "k8s.io/client-go/listers/storage/v1"
	"k8s.io/component-helpers/storage/ephemeral"
	storage "k8s.io/component-helpers/storage/volume"

	"github.com/proa-dev/proa/internal/informers"
)

// volumes is what the scheduler knows of storage: the informers' objects, and on top what
// it has decided and not seen written yet.
type volumes struct {
	synced      bool
	claims      corelisters.PersistentVolumeClaimLister
	all         corelisters.PersistentVolumeLister
	classes     storagelisters.StorageClassLister
	nodes       storagelisters.CSINodeLister
	drivers     storagelisters.CSIDriverLister
	capacities  storagelisters.CSIStorageCapacityLister
	attachments storagelisters.VolumeAttachmentLister

	chosen    map[string]*corev1.PersistentVolume // by name, bound in memory to the claim they were chosen for
	provision map[string]string                   // claims to the node their volume is to be made for
	users     map[string]int                      // claims to the counted pods that use them
}

func newVolumes() *volumes {
	return &volumes{chosen: map[string]*corev1.PersistentVolume{}, provision: map[string]string{}, users: map[string]int{}}
}

func (v *volumes) follow(f *informers.Factory) {
	v.claims, v.all = f.Core().V1().PersistentVolumeClaims().Lister(), f.Core().V1().PersistentVolumes().Lister()
	s := f.Storage().V1()
	v.classes, v.nodes, v.drivers = s.StorageClasses().Lister(), s.CSINodes().Lister(), s.CSIDrivers().Lister()
	v.capacities, v.attachments = s.CSIStorageCapacities().Lister(), s.VolumeAttachments().Lister()
}

// podVolumes are the claims of a pod that looks for a node.
type podVolumes struct {
	refused   string // why no node will do, whichever it is
	bound     []boundVolume
	unbound   []*corev1.PersistentVolumeClaim       // to be bound for the node that is chosen, the smallest first
	available map[string][]*corev1.PersistentVolume // by class, those that could be bound
	exclusive []string                              // claims that one pod alone may use, and which another one uses
	csi       map[string]string                     // unique name of a volume to its driver
	zones     []zoneLabel
	chosen    *volumeChoice
}

// boundVolume is a claim's volume.
type boundVolume struct{ volume *corev1.PersistentVolume }

// zoneLabel is a label of a volume that its nodes must share.
type zoneLabel struct {
	key    string
	values []string
}

// volumeChoice is what is to be done for a pod's claims once its node is chosen.
type volumeChoice struct {
	bindings   []volumeBinding
	provisions []*corev1.PersistentVolumeClaim
}

// volumeBinding is a volume, already bound in memory, and the claim it is bound to.
type volumeBinding struct {
	volume *corev1.PersistentVolume
	claim  *corev1.PersistentVolumeClaim
	dirty  bool // it is still to be written
}

// claimName gives the name of the claim that a volume of a pod uses, "" for none.
func claimName(pod *corev1.Pod, v *corev1.Volume) string {
	switch {
	case v.PersistentVolumeClaim != nil:
		return v.PersistentVolumeClaim.ClaimName
	case v.Ephemeral != nil:
		return ephemeral.VolumeClaimName(pod, v)
	}
	return ""
}

// volumeUses are the keys of the claims that a pod uses.
func volumeUses(pod *corev1.Pod) []string {
	var uses []string
	for i := range pod.Spec.Volumes {
		if name := claimName(pod, &pod.Spec.Volumes[i]); name != "" {
			uses = append(uses, pod.Namespace+"/"+name)
		}
	}
	return uses
}

func (v *volumes) count(_ int, c *counted, sign int32) {
	for _, use := range c.uses {
		if v.users[use] += int(sign); v.users[use] == 0 {
			delete(v.users, use)
		}
	}
}

// of resolves a pod's claims; nil when it has none.
func (v *volumes) of(pod *corev1.Pod) *podVolumes {
	if len(volumeUses(pod)) == 0 {
		return nil
	}
	p := &podVolumes{csi: map[string]string{}, available: map[string][]*corev1.PersistentVolume{}}
	if !v.synced {
		p.refused = "storage is not known yet"
		return p
	}
	immediate := false
	for i := range pod.Spec.Volumes {
		name := claimName(pod, &pod.Spec.Volumes[i])
		if name == "" {
			continue
		}
		claim, err := v.claimOf(pod, name, pod.Spec.Volumes[i].Ephemeral != nil)
		if err == nil {
			immediate, err = v.sortClaim(p, claim, immediate)
		}
		if err != nil {
			p.refused = err.Error()
			return p
		}
	}
	if immediate {
		p.refused = "pod has unbound immediate PersistentVolumeClaims"
	}
	slices.SortStableFunc(p.unbound, func(a, b *corev1.PersistentVolumeClaim) int {
		x, y := a.Spec.Resources.Requests[corev1.ResourceStorage], b.Spec.Resources.Requests[corev1.ResourceStorage]
		return x.Cmp(y)
	})
	return p
}

func (v *volumes) claimOf(pod *corev1.Pod, name string, isEphemeral bool) (*corev1.PersistentVolumeClaim, error) {
	claim, err := v.claims.PersistentVolumeClaims(pod.Namespace).Get(name)
	if err != nil {
		if isEphemeral && apierrors.IsNotFound(err) {
			return nil, fmt.Errorf("waiting for ephemeral volume controller to create the persistentvolumeclaim %q", name)
		}
		return nil, err
	}
	if claim.Status.Phase == corev1.ClaimLost {
		return nil, fmt.Errorf("persistentvolumeclaim %q bound to non-existent persistentvolume %q", name, claim.Spec.VolumeName)
	}
	if claim.DeletionTimestamp != nil {
		return nil, fmt.Errorf("persistentvolumeclaim %q is being deleted", name)
	}
	if isEphemeral {
		return claim, ephemeral.VolumeIsForPod(pod, claim)
	}
	return claim, nil
}

// sortClaim notes what a claim asks of nodes; immediate says whether one is waiting to be
// bound by others.
func (v *volumes) sortClaim(p *podVolumes, claim *corev1.PersistentVolumeClaim, immediate bool) (bool, error) {
	key := claim.Namespace + "/" + claim.Name
	if slices.Contains(claim.Spec.AccessModes, corev1.ReadWriteOncePod) && v.users[key] > 0 {
		p.exclusive = append(p.exclusive, key)
	}
	if driver, handle := v.csiOf(claim); driver != "" {
		p.csi[driver+"/"+handle] = driver
	}
	if fullyBound(claim) {
		volume, err := v.all.Get(claim.Spec.VolumeName)
		if err != nil {
			return immediate, err
		}
		p.bound = append(p.bound, boundVolume{volume})
		p.zones = append(p.zones, zonesOf(volume)...)
		return immediate, nil
	}
	delayed, err := storage.IsDelayBindingMode(claim, v.classes)
	if err != nil {
		return immediate, err
	}
	if !delayed || claim.Spec.VolumeName != "" {
		return true, nil
	}
	p.unbound = append(p.unbound, claim)
	class := storage.GetPersistentVolumeClaimClass(claim)
	if _, listed := p.available[class]; !listed {
		p.available[class] = v.ofClass(class)
	}
	return immediate, nil
}

func fullyBound(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Spec.VolumeName != "" && metav1.HasAnnotation(claim.ObjectMeta, storage.AnnBindCompleted)
}

// ofClass lists the volumes of a class, as they will be when what was decided is written.
func (v *volumes) ofClass(class string) []*corev1.PersistentVolume {
	all, err := v.all.List(everything)
	if err != nil {
		return nil // the cache answers; it has no errors to give
	}
	var of []*corev1.PersistentVolume
	for _, volume := range all {
		if storage.GetPersistentVolumeClass(volume) != class {
			continue
		}
		if taken := v.chosen[volume.Name]; taken != nil {
			volume = taken
		}
		of = append(of, volume)
	}
	slices.SortFunc(of, func(a, b *corev1.PersistentVolume) int { return strings.Compare(a.Name, b.Name) })
	return of
}

// csiOf gives driver and handle of a claim's volume, also of one still to be made.
func (v *volumes) csiOf(claim *corev1.PersistentVolumeClaim) (driver, handle string) {
	if claim.Spec.VolumeName != "" {
		volume, err := v.all.Get(claim.Spec.VolumeName)
		if err == nil {
			if volume.Spec.CSI == nil {
				return "", ""
			}
			return volume.Spec.CSI.Driver, volume.Spec.CSI.VolumeHandle
		}
	}
	class, err := v.classes.Get(storage.GetPersistentVolumeClaimClass(claim))
	if err != nil {
		return "", ""
	}
	return class.Provisioner, "claim:" + claim.Namespace + "/" + claim.Name
}

func zonesOf(volume *corev1.PersistentVolume) []zoneLabel {
	var zones []zoneLabel
	for _, key := range zoneKeys {
		if value, ok := volume.Labels[key]; ok {
			zones = append(zones, zoneLabel{key, strings.Split(value, "__")})
		}
	}
	return zones
}

var zoneKeys = [...]string{
	corev1.LabelFailureDomainBetaZone, corev1.LabelFailureDomainBetaRegion,
	corev1.LabelTopologyZone, corev1.LabelTopologyRegion,
}

var errNoStorageClass = errors.New("no class for claim")

// provisioner gives the class that can make a volume for a claim; nil when none can.
func (v *volumes) provisioner(claim *corev1.PersistentVolumeClaim) (*storagev1.StorageClass, error) {
	name := storage.GetPersistentVolumeClaimClass(claim)
	if name == "" {
		return nil, errNoStorageClass
	}
	class, err := v.classes.Get(name)
	if err != nil {
		return nil, fmt.Errorf("find storage class %q: %w", name, err)
	}
	if class.Provisioner == "" || class.Provisioner == storage.NotSupportedProvisioner {
		return nil, nil
	}
	return class, nil
}
