// SPDX-License-Identifier: Apache-2.0
#include "net/uv/uv_machine.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "net/base/check.h"
#include "net/kernel/netlink.h"

namespace culvert::uv {

using base::Error;
using base::fail;
using base::Result;

namespace {

// What the child needs, made before the fork: between fork and exec nothing may allocate or lock.
struct Prepared {
  std::vector<char*> arguments;
  std::vector<char*> environment;
  int input = -1;
  int output = -1;
  int netns = -1;
  int failure = -1;  // the step that failed and its errno go here
  pid_t parent = 0;
  bool unprivileged = true;
};

enum class Step : int { kNetns, kOutput, kPrivileges, kExec };

const char* doing(Step step) {
  switch (step) {
    case Step::kNetns: return "enter the network namespace for ";
    case Step::kOutput: return "redirect the output of ";
    case Step::kPrivileges: return "drop the privileges of ";
    case Step::kExec: break;
  }
  return "start ";
}

struct Failure {
  Step step;
  int number;
};

[[noreturn]] void give_up(const Prepared& prepared, Step step) {
  Failure failure{step, errno};
  (void)!::write(prepared.failure, &failure, sizeof failure);
  ::_exit(127);
}

// Root without a capability, now and after exec. One that had none has nothing to lose: EPERM is fine.
bool drop_privileges() {
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return false;
  (void)::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
  constexpr unsigned long kNoRoot = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED;
  if (::prctl(PR_SET_SECUREBITS, kNoRoot, 0, 0, 0) != 0 && errno != EPERM) return false;
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {};
  return ::syscall(SYS_capset, &header, none) == 0;
}

[[noreturn]] void run_child(const Prepared& prepared) {
  if (prepared.netns >= 0 && ::setns(prepared.netns, CLONE_NEWNET) != 0) give_up(prepared, Step::kNetns);
  // A session of its own: what a terminal sends to us is ours to pass on.
  ::setsid();
  if (::dup2(prepared.input, 0) < 0 || ::dup2(prepared.output, 1) < 0 || ::dup2(prepared.output, 2) < 0)
    give_up(prepared, Step::kOutput);
  // Ours are all close-on-exec; those of libraries may not be.
  (void)::syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC);
  for (int number = 1; number < NSIG; ++number) ::signal(number, SIG_DFL);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  if (prepared.unprivileged && !drop_privileges()) give_up(prepared, Step::kPrivileges);
  // SIGTERM, so that it may end its connections; it has a deadline of its own. After the privileges: a change
  // of them may reset this.
  ::prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
  if (::getppid() != prepared.parent) ::_exit(127);
  ::execve(prepared.arguments[0], prepared.arguments.data(), prepared.environment.data());
  give_up(prepared, Step::kExec);
}

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> out;
  for (const std::string& text : texts) out.push_back(const_cast<char*>(text.c_str()));
  out.push_back(nullptr);
  return out;
}

Result<base::UniqueFd> open_file(const std::string& path, int flags) {
  base::UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, 0640));
  if (!fd.valid()) return fail(Error::from_errno(errno, "open " + path));
  return fd;
}

}  // namespace

// Watches one process until it has been waited for.
class UvMachine::Child final : private FdWatch {
 public:
  Child(UvMachine& machine, int pid, base::UniqueFd pidfd, std::function<void(io::ProcessEnd)> ended)
      : machine_(machine), pid_(pid), pidfd_(std::move(pidfd)), ended_(std::move(ended)) {
    CULVERT_CHECK(machine_.loop_.watch(pidfd_.get(), *this));
  }
  ~Child();
  int pid() const { return pid_; }
  bool send_signal(int number) {
    return ::syscall(SYS_pidfd_send_signal, pidfd_.get(), number, nullptr, 0) == 0;
  }
  void set_handle(Handle* handle) { handle_ = handle; }
  // The owner of the Process gave it up.
  void abandon() {
    handle_ = nullptr;
    ended_ = nullptr;
    (void)send_signal(SIGKILL);
  }

 private:
  void on_events(uint32_t) override;

  UvMachine& machine_;
  const int pid_;
  base::UniqueFd pidfd_;
  std::function<void(io::ProcessEnd)> ended_;
  Handle* handle_ = nullptr;
};

class UvMachine::Handle final : public io::Process {
 public:
  explicit Handle(Child& child) : child_(&child), pid_(child.pid()) { child.set_handle(this); }
  ~Handle() override {
    if (child_) child_->abandon();
  }
  int pid() const override { return pid_; }
  bool send_signal(int number) override { return child_ && child_->send_signal(number); }
  void gone() { child_ = nullptr; }

 private:
  Child* child_;
  const int pid_;
};

UvMachine::Child::~Child() {
  if (handle_) handle_->gone();
  machine_.loop_.unwatch(pidfd_.get(), *this);
  (void)send_signal(SIGKILL);  // none is left if it has been waited for
}

void UvMachine::Child::on_events(uint32_t) {
  siginfo_t info{};
  if (::waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG) !=
          0 ||
      info.si_pid == 0) {
    return;
  }
  io::ProcessEnd end;
  (info.si_code == CLD_EXITED ? end.status : end.signal) = info.si_status;
  auto ended = std::move(ended_);
  machine_.forget(*this);  // deletes this
  if (ended) ended(end);
}

Result<std::unique_ptr<UvMachine>> UvMachine::create(UvLoop& loop) {
  Result<HomeNetNs> home = HomeNetNs::open();
  if (!home) return fail(std::move(home).error());
  return std::unique_ptr<UvMachine>(new UvMachine(loop, std::move(*home)));
}

UvMachine::UvMachine(UvLoop& loop, HomeNetNs home) : loop_(loop), home_(std::move(home)) {}
UvMachine::~UvMachine() = default;

void UvMachine::forget(Child& child) { children_.erase(child.pid()); }

Result<std::unique_ptr<io::Process>> UvMachine::spawn(const io::ProcessSpec& spec,
                                                      std::function<void(io::ProcessEnd)> ended) {
  CULVERT_CHECK(!spec.arguments.empty());
  const std::string& program = spec.arguments.front();
  Prepared prepared{.arguments = pointers(spec.arguments), .environment = pointers(spec.environment)};
  Result<base::UniqueFd> input = open_file("/dev/null", O_RDONLY);
  if (!input) return fail(std::move(input).error());
  Result<base::UniqueFd> output = open_file(spec.output, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW);
  if (!output) return fail(std::move(output).error().wrap("start " + program));
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) != 0) return fail(Error::from_errno(errno, "start " + program));
  base::UniqueFd read_end(pipe[0]);
  base::UniqueFd write_end(pipe[1]);
  prepared.input = input->get();
  prepared.output = output->get();
  prepared.failure = write_end.get();
  prepared.parent = ::getpid();
  prepared.unprivileged = spec.unprivileged;
  if (spec.netns) {
    auto* target = dynamic_cast<const FdNetNs*>(spec.netns.get());
    CULVERT_CHECK(target != nullptr);
    prepared.netns = target->fd();
  }
  pid_t pid = ::fork();
  if (pid == 0) run_child(prepared);
  if (pid < 0) return fail(Error::from_errno(errno, "start " + program));
  write_end.reset();
  Failure failure{};
  ssize_t got = 0;
  do {
    got = ::read(read_end.get(), &failure, sizeof failure);
  } while (got < 0 && errno == EINTR);
  base::UniqueFd pidfd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  int no_pidfd = pidfd.valid() ? 0 : errno;
  if (got != 0 || no_pidfd != 0) {
    ::kill(pid, SIGKILL);
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    if (got == sizeof failure) return fail(Error::from_errno(failure.number, doing(failure.step) + program));
    return fail(Error::from_errno(no_pidfd != 0 ? no_pidfd : EIO, "watch " + program));
  }
  auto child = std::make_unique<Child>(*this, pid, std::move(pidfd), std::move(ended));
  auto handle = std::make_unique<Handle>(*child);
  children_[pid] = std::move(child);
  return handle;
}

Result<io::NetNsRef> UvMachine::open_netns(const std::string& name) {
  return FdNetNs::open(name.find('/') == std::string::npos ? "/run/netns/" + name : name);
}

Result<> UvMachine::add_address(const io::NetNsRef& netns, const base::IpAddr& address) {
  return home_.run_in(netns.get(), [&] { return kernel::add_loopback_address(address); });
}

Result<> UvMachine::remove_address(const io::NetNsRef& netns, const base::IpAddr& address) {
  return home_.run_in(netns.get(), [&] { return kernel::remove_loopback_address(address); });
}

}  // namespace culvert::uv
