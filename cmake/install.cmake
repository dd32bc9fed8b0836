# cmake --install BUILD --prefix DIR: what a host needs to run, so that a cluster can have it in one place.
include(GNUInstallDirs)
set_target_properties(epmoe PROPERTIES INSTALL_RPATH_USE_LINK_PATH ON)
install(TARGETS epmoe DESTINATION ${CMAKE_INSTALL_BINDIR})
install(PROGRAMS launch/mpirun.sh DESTINATION ${CMAKE_INSTALL_BINDIR} RENAME epmoe-mpirun)
install(FILES docs/epmoe.1 DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES launch/completion.bash RENAME epmoe
        DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
install(FILES launch/hosts.example launch/slurm.example launch/topologies/dgx-a100.json
        launch/topologies/dgx-h100.json DESTINATION ${CMAKE_INSTALL_DOCDIR})
