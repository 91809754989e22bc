package appliance

import (
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/nfseal/nfseal/appliance/catalog"
	"github.com/nfseal/nfseal/appliance/network"
	"github.com/nfseal/nfseal/bpf/gate"
)

// expectPart looks for what is said of a part that is off.
func (r *running) expectPart(t *testing.T, name, sentence string) {
	t.Helper()
	for _, f := range r.Features() {
		if f.Name == name && (f.On || !strings.Contains(f.Detail, sentence) || strings.Contains(f.Detail, "\n")) {
			t.Errorf("%+v, want %q", f, sentence)
		}
	}
}

// Where somebody else's program is on the interface, the daemon serves without the gate and says so; or
// refuses, if the gate is required. One that could be guarded is.
func TestGateThatCannotBe(t *testing.T) {
	if !insideNamespaces(t) {
		return
	}
	o := networkOptions(t)
	cable(t, "foreign", "10.83.0.0/24")
	dropAll(t, "foreign")
	o.Network.Addresses, o.Network.Steer = nil, network.UseAuto
	o.Network.GateInterfaces, o.Network.Gate = []network.Selector{{Name: "foreign"}}, network.UseRequire
	if a, err := Open(t.Context(), o); !errors.Is(err, gate.ErrBusy) {
		t.Fatalf("required: %v, %v", a, err)
	}
	o.Network.Gate = network.UseAuto
	r := start(t, o)
	r.expectPart(t, network.PartGate, "runs another XDP program")
	if r.logs.FilterMessage("a part is left out").Len() != 1 {
		t.Error("not said once")
	}
	r.stop(t)

	client := cableTo(t, "10.78.0.2/24")
	o.Network.GateInterfaces = append(o.Network.GateInterfaces, network.Selector{Name: "storage"})
	o.Network.Addresses = network.Desired{{Interface: network.Selector{Name: "storage"}, Prefix: netip.MustParsePrefix("10.78.0.1/24"), Up: true}}
	o.Network.AllowFrom = []netip.Prefix{netip.MustParsePrefix("10.99.0.0/16")}
	r = start(t, o)
	if err := client.connect("10.78.0.2", netip.MustParseAddr("10.78.0.1")); !noAnswer(err) {
		t.Errorf("the other interface: %v, want no answer", err)
	}
	if n, err := r.Network(t.Context(), 0); err != nil || len(n.Interfaces) != 1 || n.Interfaces[0].Name != "storage" {
		t.Errorf("%+v, %v", n.Interfaces, err)
	}
	r.stop(t)

	o.Network.Gate, o.Network.GateInterfaces = network.UseRequire, []network.Selector{{Name: "missing"}}
	if a, err := Open(t.Context(), o); !errors.Is(err, network.ErrNoInterface) {
		t.Fatalf("required on an interface that is not there: %v, %v", a, err)
	}
}

// Where the gate is required, a mount target on an interface that it can't guard is refused, and nothing of it
// is left; where it is not, the mount target is made.
func TestMountTargetThatCannotBeGuarded(t *testing.T) {
	if !insideNamespaces(t) {
		return
	}
	o := networkOptions(t)
	cable(t, "foreign", "10.83.0.0/24")
	dropAll(t, "foreign")
	o.Network.Addresses, o.Network.Steer, o.Network.Gate = nil, network.UseAuto, network.UseRequire
	r := start(t, o)
	home := r.create(t, "home")
	subnet, err := r.CreateSubnet(t.Context(), catalog.Subnet{Interface: "foreign", Prefix: netip.MustParsePrefix("10.83.0.0/24"), Up: true})
	check(t, err)
	wanted := catalog.MountTarget{FileSystem: home, Subnet: subnet.ID, Groups: []string{r.openTo(t, "some", "10.83.0.2/32")}}
	if m, err := r.CreateMountTarget(t.Context(), wanted); !errors.Is(err, gate.ErrBusy) {
		t.Errorf("required: %+v, %v", m, err)
	}
	if left, err := r.catalog.Network(t.Context()); err != nil || len(left.MountTargets) != 0 || hasAddress(t, "foreign", "10.83.0.4/24") {
		t.Errorf("left over: %+v, %v", left.MountTargets, err)
	}
	r.stop(t)

	o.Network.Gate = network.UseAuto
	r = start(t, o)
	defer r.stop(t)
	m, err := r.CreateMountTarget(t.Context(), wanted)
	if err != nil || !hasAddress(t, "foreign", m.Address.String()+"/24") {
		t.Errorf("not required: %+v, %v", m, err)
	}
	r.expectPart(t, network.PartGate, "runs another XDP program")
}

// Without rights the daemon serves, and says in a sentence each which parts are left out and what they need.
func TestNetworkWithoutRights(t *testing.T) {
	const inside = "NFSEAL_TEST_NOBODY"
	dir := os.Getenv(inside)
	if dir == "" {
		if os.Geteuid() != 0 {
			t.Skip("needs root, to give its rights up; runs in CI")
		}
		runAsNobody(t, inside)
		return
	}
	o := testOptions(dir)
	o.Network.GateInterfaces = []network.Selector{{Name: "lo"}}
	o.Network.Addresses = network.Desired{{Interface: network.Selector{Name: "lo"}, Prefix: netip.MustParsePrefix("10.77.0.1/32")}}
	o.Network.AllowFrom = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
	o.Network.PinDir = dir
	r := start(t, o)
	for _, part := range []string{network.PartSteer, network.PartGate, network.PartAddresses} {
		r.expectPart(t, part, "CAP_")
	}
	id := r.create(t, "home")
	c, root := r.mount(t, id)
	write(t, c, root, "letter", "hello")
	r.stop(t)
	o.Network.Gate = network.UseRequire
	if a, err := Open(t.Context(), o); !errors.Is(err, gate.ErrPermission) {
		t.Errorf("required: %v, %v", a, err)
	}
}

// runAsNobody runs the calling test once more in a network of its own, without any right.
func runAsNobody(t *testing.T, variable string) {
	t.Helper()
	const nobody = 65534
	dir, err := os.MkdirTemp("", "nfseal-nobody-")
	check(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	check(t, os.Chown(dir, nobody, nobody))
	binary, err := os.ReadFile("/proc/self/exe") // its directory may be closed to others
	check(t, err)
	path := dir + "/test"
	check(t, os.WriteFile(path, binary, 0o755))
	cmd := exec.CommandContext(t.Context(), path, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), variable+"="+dir+"/data", "TMPDIR="+dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("as nobody: %v\n%s", err, out)
	}
}
