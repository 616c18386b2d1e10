def test_try(fabricate):
    import shutil, time
    from repkit.report.render import render
    run = fabricate(n_each=4, seeds=(0,1,2), skip=["Li/seed_1/speaker_03"], paper=[{"corpus":"iemocap","condition":"BL","uar":58.03,"minimum":56.78,"maximum":59.12,"note":"4 classes, 5 sessions"}])
    t=time.time(); render(run); print("RENDER", time.time()-t)
    shutil.rmtree("/tmp/fab", ignore_errors=True); shutil.copytree(run, "/tmp/fab")
